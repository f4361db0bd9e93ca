//! Who one is before NATS, and what one may do there: by password, nkey, credentials and certificate, with the
//! configuration that `deploy/nats` has.

use std::path::Path;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use async_nats::{ConnectOptions, Event, ServerError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::client::seq;
use crate::company::company;
use crate::harness::{Cluster, Nats, Replica, operate, soon};
use crate::wire::broker_is;

const PASSWORDS: &[(&str, &str)] = &[
    ("PERMCAST_NATS_PASSWORD", "mellon"),
    ("PERMCAST_NATS_SUBSCRIBER_PASSWORD", "speak"),
    ("PERMCAST_NATS_ACME_PASSWORD", "friend"),
];

/// A server with one of the files in `deploy/nats`.
async fn deployed(file: &str, environment: &[(&str, &str)]) -> Nats {
    let path = format!("{}/deploy/nats/{file}", env!("CARGO_MANIFEST_DIR"));
    Nats::start_with(&["-c", &path], environment).await
}

/// A replica that cannot start; gives what it says.
async fn refused(settings: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_permcast"));
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .current_dir(directory.path())
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = soon("the end of a replica", command.output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

/// A replica of these settings talks with the others over NATS.
async fn is_let_in(settings: &[(&str, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    let replica = Replica::start("a", &directory.path().join("permcast.db"), None, settings).await;
    broker_is(&replica, "up").await;
}

fn file(directory: &TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Somebody at NATS, and what it says of what he may not.
struct Stranger {
    client: async_nats::Client,
    refusals: mpsc::Receiver<String>,
}

impl Stranger {
    async fn enter(nats: &Nats, user: &str, password: &str) -> Self {
        let (told, refusals) = mpsc::channel(16);
        let options =
            ConnectOptions::with_user_and_password(user.into(), password.into()).event_callback(move |event| {
                let told = told.clone();
                async move {
                    if let Event::ServerError(ServerError::Other(refusal)) = event {
                        told.send(refusal).await.unwrap();
                    }
                }
            });
        Self { client: options.connect(nats.address.as_str()).await.unwrap(), refusals }
    }

    async fn is_refused(&mut self, what: &str) {
        let refusal = soon("a refusal", self.refusals.recv()).await.unwrap();
        assert!(refusal.contains("Permissions Violation") && refusal.contains(what), "{refusal}");
    }

    async fn hears(&self, subject: &str) -> async_nats::Subscriber {
        let subscriber = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.client.flush().await.unwrap();
        subscriber
    }
}

async fn next(subscriber: &mut async_nats::Subscriber) -> (String, Value) {
    let message = soon("a message", subscriber.next()).await.unwrap();
    (message.subject.to_string(), serde_json::from_slice(&message.payload).unwrap())
}

#[tokio::test]
async fn a_subscriber_hears_what_is_his_and_can_say_nothing() {
    let nats = deployed("users.conf", PASSWORDS).await;
    let url = format!("nats://permcast:mellon@{}", nats.address);
    let cluster = Cluster::start_by([Some(&url), Some(&url)], &[]).await;
    broker_is(&cluster.a, "up").await;
    broker_is(&cluster.b, "up").await;

    let mut acme = Stranger::enter(&nats, "acme", "friend").await;
    let mut all = Stranger::enter(&nats, "subscriber", "speak").await;
    let mut own = acme.hears("permcast.v1.default.changes.acme").await;
    let mut everyones = acme.hears("permcast.v1.default.changes._all").await;
    let mut changes = all.hears("permcast.v1.default.changes.*").await;
    for subject in ["changes.default", "changes.*", "replicas", ">"] {
        let subject = format!("permcast.v1.default.{subject}");
        let _nothing = acme.hears(&subject).await;
        acme.is_refused(&format!("Subscription to \"{subject}\"")).await;
    }
    for subject in ["changes.acme", "changes._all", "replicas", "hello"] {
        for stranger in [&mut acme, &mut all] {
            let subject = format!("permcast.v1.default.{subject}");
            stranger.client.publish(subject.clone(), "x".into()).await.unwrap();
            stranger.is_refused(&format!("Publish to \"{subject}\"")).await;
        }
    }

    let (root, _) = company(&cluster).await;
    root.put("/v1/tenants/default/users/ben/permissions/x").await.ok();
    let version = root.put("/v1/tenants/acme/users/zoe/permissions/x").await.version();
    root.put_json("/v1/lockdown", json!({"enabled": true, "retry_after_s": 1})).await.ok();
    root.put_json("/v1/lockdown", json!({"enabled": false})).await.ok();
    let (subject, first) = next(&mut own).await;
    assert_eq!(subject, "permcast.v1.default.changes.acme");
    let mut last = first;
    while last["changes"][0]["seq"] != seq(&version) {
        let tenants: Vec<_> = last["changes"].as_array().unwrap().iter().map(|change| &change["tenant"]).collect();
        assert!(tenants.iter().all(|tenant| *tenant == "acme"), "{last}");
        last = next(&mut own).await.1;
    }
    assert_eq!(next(&mut everyones).await.1["changes"][0]["kind"], "lockdown");
    // He who may, hears of the others, too.
    while next(&mut changes).await.0 != "permcast.v1.default.changes.default" {}
}

#[tokio::test]
async fn a_replica_that_nats_does_not_know_does_not_start() {
    let nats = deployed("users.conf", PASSWORDS).await;
    let said = refused(&[("PERMCAST_NATS_URL", &format!("nats://permcast:guessed@{}", nats.address))]).await;
    assert!(said.contains("NATS does not let this replica in: check the user and password"), "{said}");
    assert!(!said.contains("guessed"), "{said}");
    let said = refused(&[("PERMCAST_NATS_URL", &nats.url)]).await;
    assert!(said.contains("NATS does not let this replica in"), "{said}");
}

#[tokio::test]
async fn a_replica_that_has_no_rights_at_nats_does_not_start() {
    let nats = deployed("users.conf", PASSWORDS).await;
    for user in ["subscriber:speak", "acme:friend"] {
        let said = refused(&[("PERMCAST_NATS_URL", &format!("nats://{user}@{}", nats.address))]).await;
        assert!(said.contains("NATS does not give this replica its rights"), "{said}");
        assert!(said.contains("must publish and subscribe on permcast.v1.default.>"), "{said}");
    }
    // The rights are those of one deployment.
    let url = format!("nats://permcast:mellon@{}", nats.address);
    let said = refused(&[("PERMCAST_NATS_URL", &url), ("PERMCAST_DEPLOYMENT", "other")]).await;
    assert!(said.contains("permcast.v1.other.>"), "{said}");
}

#[tokio::test]
async fn a_replica_may_have_an_nkey() {
    let directory = tempfile::tempdir().unwrap();
    let [own, all, acme] = [(); 3].map(|()| KeyPair::new_user());
    let keys = [
        ("PERMCAST_NATS_NKEY", own.public_key()),
        ("PERMCAST_NATS_SUBSCRIBER_NKEY", all.public_key()),
        ("PERMCAST_NATS_ACME_NKEY", acme.public_key()),
    ];
    let nats = deployed("nkeys.conf", &keys.each_ref().map(|(name, key)| (*name, key.as_str()))).await;
    let seed = file(&directory, "seed", &format!("{}\n", own.seed().unwrap()));
    is_let_in(&[("PERMCAST_NATS_URL", &nats.url), ("PERMCAST_NATS_NKEY_FILE", &seed)]).await;

    let unknown = file(&directory, "unknown", &KeyPair::new_user().seed().unwrap());
    let said = refused(&[("PERMCAST_NATS_URL", &nats.url), ("PERMCAST_NATS_NKEY_FILE", &unknown)]).await;
    assert!(said.contains("NATS does not let this replica in"), "{said}");
    let none = file(&directory, "none", "no seed");
    let said = refused(&[("PERMCAST_NATS_URL", &nats.url), ("PERMCAST_NATS_NKEY_FILE", &none)]).await;
    assert!(said.contains("NATS does not let this replica in"), "{said}");
    let subscriber = file(&directory, "subscriber", &all.seed().unwrap());
    let said = refused(&[("PERMCAST_NATS_URL", &nats.url), ("PERMCAST_NATS_NKEY_FILE", &subscriber)]).await;
    assert!(said.contains("NATS does not give this replica its rights"), "{said}");
}

/// A JWT as NATS has them.
fn claims(issuer: &KeyPair, subject: &KeyPair, of_nats: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut of_nats = of_nats;
    of_nats["version"] = json!(2);
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = encode(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let body = encode(json!({"jti": "x", "iat": now, "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": "permcast", "nats": of_nats}));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(format!("{header}.{body}").as_bytes()).unwrap());
    format!("{header}.{body}.{signature}")
}

#[tokio::test]
async fn a_replica_may_have_credentials() {
    let directory = tempfile::tempdir().unwrap();
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1});
    let configuration = format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}\n",
        claims(&operator, &operator, json!({"type": "operator"})),
        account.public_key(),
        claims(&operator, &account, json!({"type": "account", "limits": limits})),
    );
    let configuration = file(&directory, "nats.conf", &configuration);
    let nats = Nats::start_with(&["-c", &configuration], &[]).await;
    let credentials = |name: &str, subjects: &str| {
        let (user, allow) = (KeyPair::new_user(), json!({"allow": [subjects]}));
        let rights = json!({"type": "user", "pub": allow, "sub": allow, "subs": -1, "data": -1, "payload": -1});
        let (token, seed) = (claims(&account, &user, rights), user.seed().unwrap());
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        file(&directory, name, &text)
    };
    let own = credentials("own.creds", "permcast.v1.default.>");
    is_let_in(&[("PERMCAST_NATS_URL", &nats.url), ("PERMCAST_NATS_CREDENTIALS_FILE", &own)]).await;

    let others = credentials("others.creds", "permcast.v1.other.>");
    let said = refused(&[("PERMCAST_NATS_URL", &nats.url), ("PERMCAST_NATS_CREDENTIALS_FILE", &others)]).await;
    assert!(said.contains("NATS does not give this replica its rights"), "{said}");
    let none = file(&directory, "none.creds", "no credentials");
    let said = refused(&[("PERMCAST_NATS_URL", &nats.url), ("PERMCAST_NATS_CREDENTIALS_FILE", &none)]).await;
    assert!(said.contains("cannot read") && said.contains("none.creds"), "{said}");
    let absent = directory.path().join("absent.creds");
    let said =
        refused(&[("PERMCAST_NATS_URL", &nats.url), ("PERMCAST_NATS_CREDENTIALS_FILE", absent.to_str().unwrap())])
            .await;
    assert!(said.contains("cannot read") && said.contains("absent.creds"), "{said}");
}

/// An authority, and two certificates of it for `localhost`: the server's and a client's.
fn certificates(directory: &Path) -> [String; 5] {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = write("ca.pem", authority.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(authority, key);
    let issue = |name: &str, purpose| {
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        leaf.extended_key_usages = vec![purpose];
        let certificate = leaf.signed_by(&key, &issuer).unwrap().pem();
        [write(&format!("{name}.pem"), certificate), write(&format!("{name}.key"), key.serialize_pem())]
    };
    let [server, server_key] = issue("server", ExtendedKeyUsagePurpose::ServerAuth);
    let [client, client_key] = issue("client", ExtendedKeyUsagePurpose::ClientAuth);
    [root, server, server_key, client, client_key]
}

#[tokio::test]
async fn nats_may_want_tls_and_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let [root, server, server_key, client, client_key] = certificates(directory.path());
    let arguments = ["--tlsverify", "--tlscacert", &root, "--tlscert", &server, "--tlskey", &server_key];
    let nats = Nats::start_with(&arguments, &[]).await;
    let url = format!("tls://{}", nats.address);
    is_let_in(&[
        ("PERMCAST_NATS_URL", &url),
        ("PERMCAST_NATS_TLS_CA_FILE", &root),
        ("PERMCAST_NATS_TLS_CERT_FILE", &client),
        ("PERMCAST_NATS_TLS_KEY_FILE", &client_key),
    ])
    .await;

    // A server that is not known to be the right one is as good as none: changes go by the log's tail.
    for known in [&[("PERMCAST_NATS_TLS_CA_FILE", root.as_str())][..], &[]] {
        let database = directory.path().join("permcast.db");
        let settings = [&[("PERMCAST_NATS_URL", url.as_str())], known].concat();
        let replica = Replica::start("a", &database, None, &settings).await;
        assert_eq!(replica.client().get("/readyz").await.ok().body["broker"], "down");
        let flags: &[&str] = if known.is_empty() { &[] } else { &["--nats-tls-ca-file", &root] };
        let (code, said) = operate(&database, &[&["doctor", "--nats-url", &url], flags].concat());
        assert!(code != 0 && said.contains("broker      down: cannot connect to NATS"), "{said}");
    }
}

#[tokio::test]
async fn doctor_says_what_nats_does_not_let_one_do() {
    let nats = deployed("users.conf", PASSWORDS).await;
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("permcast.db");
    let _replica = Replica::start("a", &database, None, &[]).await;
    let doctor = |user: &str| {
        let url = format!("nats://{user}@{}", nats.address);
        operate(&database, &["doctor", "--nats-url", &url])
    };
    let (code, said) = doctor("permcast:mellon");
    assert!(code == 0 && said.contains("broker      up"), "{said}");
    let (code, said) = doctor("subscriber:speak");
    assert!(code != 0 && said.contains("does not give this replica its rights"), "{said}");
}
