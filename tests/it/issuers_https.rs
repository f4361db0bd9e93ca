//! Identity providers by https: who proves to be the host that the settings name is believed, and nobody else.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::client::Client;
use crate::harness::{OPERATOR, Replica, until};
use crate::provider::{AUDIENCE, Mode, Provider};

/// An authority of the test's own.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// What a host of this name proves itself by.
    fn acceptor(&self, name: &str) -> TlsAcceptor {
        self.acceptor_until(name, 2100)
    }

    fn acceptor_until(&self, name: &str, year: i32) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (leaf.not_before, leaf.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(year, 1, 1));
        let certificate = leaf.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A replica that believes one authority and these providers, and writes its log to a file beside its database.
async fn trusting(directory: &Path, authority: &Authority, issuers: &[Value]) -> Replica {
    let (roots, log) = (directory.join("ca.pem"), directory.join("log"));
    std::fs::write(&roots, &authority.pem).unwrap();
    let issuers = json!(issuers).to_string();
    let settings = [("PERMCAST_ISSUERS", issuers.as_str()), ("SSL_CERT_FILE", roots.to_str().unwrap())];
    let log = Stdio::from(std::fs::File::create(log).unwrap());
    Replica::start_writing("a", &directory.join("permcast.db"), None, &settings, log).await
}

async fn bind(client: &Client, issuers: &[&str]) {
    let root = client.with(&client.login(OPERATOR).await);
    let identities: Vec<Value> = issuers.iter().map(|issuer| json!({"issuer": issuer, "subject": "b-1"})).collect();
    root.post("/v1/tenants/default/users", json!({"id": "ben", "identities": identities})).await.ok();
}

#[tokio::test]
async fn a_provider_that_proves_to_be_its_host_is_asked_for_its_keys() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let by_name = Provider::start_secure(authority.acceptor("localhost"), "localhost").await;
    let by_address = Provider::start_secure(authority.acceptor("127.0.0.1"), "127.0.0.1").await;
    let issuers = [by_name.settings(&json!({})), by_address.settings(&json!({}))];
    let replica = trusting(directory.path(), &authority, &issuers).await;
    let client = replica.client();
    bind(&client, &[&by_name.issuer, &by_address.issuer]).await;
    for provider in [&by_name, &by_address] {
        assert!(provider.issuer.starts_with("https://"));
        let me = client.bearing(&provider.token("b-1")).get("/v1/me").await.ok().body;
        assert_eq!(me["user"], "ben");
    }
}

/// Listens where https is expected, and speaks something else.
async fn speaks_no_tls() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
        }
    });
    place
}

#[tokio::test]
async fn who_does_not_prove_to_be_it_gives_no_keys_and_the_log_says_why() {
    let (directory, authority, other) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let good = || authority.acceptor("localhost");
    let elsewhere = Provider::start_secure(good(), "localhost").await;
    let host = "localhost";
    let proof = "what answers there does not prove to be its host";
    let redirecting = Provider::start_secure(good(), host).await;
    redirecting.behave(Mode::RedirectTo(format!("{}/jwks", elsewhere.issuer)));
    let leading_inside = Provider::start_secure(good(), host).await;
    leading_inside.behave(Mode::KeysAt(format!("{}/jwks", elsewhere.issuer)));
    let leading_to_http = Provider::start_secure(good(), host).await;
    leading_to_http.behave(Mode::KeysAt("http://127.0.0.1:9/jwks".to_owned()));
    let leading_to_a_file = Provider::start_secure(good(), host).await;
    leading_to_a_file.behave(Mode::KeysAt("file:///etc/passwd".to_owned()));
    let cases = [
        (Provider::start_secure(authority.acceptor("elsewhere.test"), host).await, proof),
        (Provider::start_secure(authority.acceptor("localhost"), "127.0.0.1").await, proof),
        (Provider::start_secure(other.acceptor("localhost"), host).await, proof),
        (Provider::start_secure(authority.acceptor_until("localhost", 2020), host).await, proof),
        (redirecting, "a redirect is not followed"),
        (leading_inside, "its host has an address that is not public"),
        (leading_to_http, "its host has an address that is not public"),
        (leading_to_a_file, "its address is not https"),
    ];
    let mut issuers: Vec<Value> = cases.iter().map(|(provider, _)| provider.settings(&json!({}))).collect();
    let deaf = speaks_no_tls().await;
    issuers.push(json!({"issuer": deaf, "audiences": [AUDIENCE]}));
    let replica = trusting(directory.path(), &authority, &issuers).await;
    let client = replica.client();
    let named: Vec<&str> = cases.iter().map(|(provider, _)| provider.issuer.as_str()).collect();
    bind(&client, &named).await;
    let log = directory.path().join("log");
    let told: Vec<(&str, &str)> =
        cases.iter().map(|(provider, why)| (provider.issuer.as_str(), *why)).chain([(deaf.as_str(), proof)]).collect();
    for (issuer, why) in told {
        until(&format!("a line about {issuer}: {why}"), async || {
            let log = std::fs::read_to_string(&log).unwrap();
            let told = log.lines().any(|line| line.contains("WARN") && line.contains(issuer) && line.contains(why));
            told.then_some(())
        })
        .await;
    }
    for (provider, why) in &cases {
        let answer = client.bearing(&provider.token("b-1")).get("/v1/me").await;
        assert_eq!(answer.status, 401, "{why}: {answer:?}");
    }
    assert_eq!(elsewhere.asked(), 0, "nobody was led there");
}
