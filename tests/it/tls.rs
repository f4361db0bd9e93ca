//! TLS on the listener, with a client that trusts one authority of its own: requests, both ways of push, a certificate
//! that is replaced, and those that cannot be used.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{OPERATOR, PASSWORD, Replica, soon, until};

const NAME: &str = "permcast.test";

/// An authority, and where a replica finds what it certified.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        let authority = Self { issuer: Issuer::new(params, key), root, folder: tempfile::tempdir().unwrap() };
        authority.certify();
        authority
    }

    /// Writes a new certificate and its key.
    fn certify(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([NAME.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    async fn replica(&self, settings: &[(&str, &str)]) -> Replica {
        let (certificate, key) = (self.path("cert.pem"), self.path("key.pem"));
        let own = [("PERMCAST_TLS_CERT", certificate.to_str().unwrap()), ("PERMCAST_TLS_KEY", key.to_str().unwrap())];
        Replica::start("a", &self.path("permcast.db"), None, &[&own, settings].concat()).await
    }

    /// Who trusts this authority and speaks these versions.
    fn trusting(&self, versions: &[&'static tokio_rustls::rustls::SupportedProtocolVersion]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    async fn dial(&self, replica: &Replica) -> TlsStream<TcpStream> {
        self.try_dial(replica, NAME).await.unwrap()
    }

    async fn try_dial(&self, replica: &Replica, name: &'static str) -> std::io::Result<TlsStream<TcpStream>> {
        let connector = self.trusting(&[&version::TLS13, &version::TLS12]);
        connector.connect(ServerName::try_from(name).unwrap(), socket(replica).await).await
    }

    /// One request, on a connection of its own.
    async fn ask(&self, replica: &Replica, request: &str) -> String {
        let mut stream = self.dial(replica).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    async fn token(&self, replica: &Replica) -> String {
        let body = json!({"username": OPERATOR, "password": PASSWORD}).to_string();
        let answer = self
            .ask(
                replica,
                &format!(
                    "POST /v1/login HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
            )
            .await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let tokens: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
        tokens["access_token"].as_str().unwrap().to_owned()
    }
}

async fn socket(replica: &Replica) -> TcpStream {
    let address = replica.base.strip_prefix("https://").expect("it says that it speaks TLS");
    TcpStream::connect(address).await.unwrap()
}

#[tokio::test]
async fn requests_and_both_ways_of_push_go_over_tls() {
    let authority = Authority::new();
    let replica = authority.replica(&[("PERMCAST_ISSUER", "https://permcast.test")]).await;
    let token = authority.token(&replica).await;

    let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(
        format!("wss://{NAME}/v1/ws").as_str(),
    )
    .unwrap();
    request.headers_mut().insert("Origin", format!("https://{NAME}").parse().unwrap());
    let (mut push, _) = tokio_tungstenite::client_async(request, authority.dial(&replica).await).await.unwrap();
    push.send(Message::text(json!({"type": "hello", "token": token}).to_string())).await.unwrap();
    let mut hear = async || match soon("a message", push.next()).await.unwrap().unwrap() {
        Message::Text(text) => serde_json::from_str::<Value>(&text).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(hear().await["type"], "welcome");

    let mut events = authority.dial(&replica).await;
    events
        .write_all(
            format!("GET /v1/events HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
        )
        .await
        .unwrap();
    let mut heard = String::new();
    let mut streamed = async |what: &str| {
        let mut buffer = [0; 4096];
        while !heard.contains(what) {
            let read = soon(what, events.read(&mut buffer)).await.unwrap();
            assert!(read > 0, "{heard}");
            heard.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    };
    streamed("event: welcome").await;

    let told = authority
        .ask(
            &replica,
            &format!(
                "PUT /v1/tenants/default/users/{OPERATOR}/permissions/invoices:read HTTP/1.1\r\nHost: {NAME}\r\n\
                 Connection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
            ),
        )
        .await;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    assert_eq!(hear().await["type"], "permissions_changed");
    streamed("event: permissions_changed").await;
}

#[tokio::test]
async fn the_certificate_is_the_listeners_own() {
    let authority = Authority::new();
    let replica = authority.replica(&[]).await;
    for versions in [&version::TLS12, &version::TLS13] {
        let connector = authority.trusting(&[versions]);
        let name = ServerName::try_from(NAME).unwrap();
        let stream = connector.connect(name, socket(&replica).await).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(versions.version));
    }
    let other = authority.try_dial(&replica, "other.test").await;
    assert!(other.is_err(), "it is not in the name of another");
    let stranger = Authority::new().try_dial(&replica, NAME).await;
    assert!(stranger.is_err(), "who trusts somebody else does not trust it");
    // Who speaks no TLS gets no answer but TLS's own, and harms nobody.
    let mut plain = socket(&replica).await;
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the end", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    authority.dial(&replica).await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_and_a_faulty_one_is_not() {
    let authority = Authority::new();
    let replica = authority.replica(&[]).await;
    let shown = async || {
        let stream = authority.dial(&replica).await;
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let before = shown().await;
    std::fs::write(authority.path("key.pem"), "nothing").unwrap();
    replica.signal("-HUP");
    assert_eq!(shown().await, before);
    let new = authority.certify();
    replica.signal("-HUP");
    until("the new certificate", async || (shown().await == new).then_some(())).await;
}

#[tokio::test]
async fn who_says_nothing_keeps_nobody_out() {
    let authority = Authority::new();
    let replica = authority.replica(&[]).await;
    let mut silent = Vec::new();
    for _ in 0..1100 {
        silent.push(socket(&replica).await);
    }
    let began = std::time::Instant::now();
    authority.dial(&replica).await;
    assert!(began.elapsed().as_secs() < 4, "it waited for the silent: {:?}", began.elapsed());
    let mut byte = [0];
    for mut socket in silent {
        assert!(!soon("the end of a silent one", socket.read(&mut byte)).await.is_ok_and(|read| read > 0));
    }
}

#[tokio::test]
async fn the_canary_finds_its_own_listener() {
    let authority = Authority::new();
    let replica = authority.replica(&[("PERMCAST_CANARY", "100ms")]).await;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    until("a whole probe", async || {
        let text = authority.ask(&replica, &request).await;
        let probes = text.split_once("permcast_canary_probes_total{outcome=\"complete\"} ")?.1.lines().next()?;
        (probes != "0").then_some(())
    })
    .await;
}

/// What a start that fails says.
fn refused(folder: &Path, certificate: &Path, key: &Path) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_permcast"))
        .arg("serve")
        .env("PERMCAST_LISTEN", "127.0.0.1:0")
        .env("PERMCAST_TLS_CERT", certificate)
        .env("PERMCAST_TLS_KEY", key)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let authority = Authority::new();
    let (folder, certificate, key) = (authority.folder.path(), authority.path("cert.pem"), authority.path("key.pem"));
    let said = refused(folder, &authority.path("absent.pem"), &key);
    assert!(said.contains("tls_cert") && said.contains("absent.pem"), "{said}");
    let said = refused(folder, &certificate, &certificate);
    assert!(said.contains("tls_key") && said.contains("cert.pem"), "{said}");
    std::fs::write(authority.path("other.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let said = refused(folder, &certificate, &authority.path("other.pem"));
    assert!(said.contains("cannot be used together"), "{said}");
    assert!(!said.contains("PRIVATE"), "{said}");
}
