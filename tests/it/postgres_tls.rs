//! The way to PostgreSQL under TLS, and the password from a file.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::harness::{Cluster, OPERATOR, operation};
use crate::postgres_own::Own;

const URL: &str = "PERMCAST_DATABASE_URL";
const PASSWORD_FILE: &str = "PERMCAST_DATABASE_PASSWORD_FILE";
const HUSH: &str = "hush hush & more";
const NAME: &str = "localhost";

/// A server that lets nobody in but by TLS and with his password.
async fn guarded() -> Own {
    let server = Own::start(&[]).await;
    server.psql("postgres", &format!("CREATE ROLE app LOGIN PASSWORD '{HUSH}'"));
    server.psql("postgres", "CREATE DATABASE permcast OWNER app");
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    std::fs::write(server.folder().join("ca.pem"), params.self_signed(&own).unwrap().pem()).unwrap();
    std::fs::write(server.folder().join("other.pem"), params.self_signed(&other).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let named = CertificateParams::new([NAME.to_owned()]).unwrap();
    let certificate = named.signed_by(&key, &Issuer::new(params, own)).unwrap();
    let (cert, private) = (server.folder().join("server.pem"), server.folder().join("server.key"));
    std::fs::write(&cert, certificate.pem()).unwrap();
    std::fs::write(&private, key.serialize_pem()).unwrap();
    Own::owned(&private, "600");
    server.set(&[
        "ssl = on",
        &format!("ssl_cert_file = '{}'", cert.display()),
        &format!("ssl_key_file = '{}'", private.display()),
    ]);
    server.admit("hostssl all app 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n");
    server.reload();
    server
}

fn url(server: &Own, host: &str, more: &str) -> String {
    format!("postgres://app@{host}:{}/permcast?{more}", server.port)
}

fn trusting(server: &Own, authority: &str) -> String {
    format!("sslmode=verify-full&sslrootcert={}", server.folder().join(authority).display())
}

/// What a replica says that does not come to be.
fn refused(url: &str, password: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = operation(&folder.path().join("none.db"), &["serve"]);
    let output = serve.env(URL, url).env(PASSWORD_FILE, password).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!said.contains("hush"), "{said}");
    said
}

#[tokio::test]
async fn replicas_come_in_by_tls_with_a_password_from_a_file_and_others_do_not() {
    let server = guarded().await;
    let secrets = tempfile::tempdir().unwrap();
    let (right, wrong) = (secrets.path().join("right"), secrets.path().join("wrong"));
    std::fs::write(&right, format!("{HUSH}\n")).unwrap();
    std::fs::write(&wrong, "hush, wrongly\n").unwrap();

    let good = url(&server, NAME, &trusting(&server, "ca.pem"));
    let file = right.to_str().unwrap();
    let cluster = Cluster::start_by([None, None], &[(URL, &good), (PASSWORD_FILE, file)]).await;
    let encrypted = "SELECT count(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE usename = 'app'";
    assert_eq!(server.psql("permcast", encrypted), "t");
    for replica in [&cluster.a, &cluster.b] {
        let client = replica.client();
        client.with(&client.login(OPERATOR).await).get("/v1/me").await.ok();
    }

    let said = refused(&url(&server, NAME, &trusting(&server, "other.pem")), &right);
    assert!(said.contains("by TLS") && said.contains("sslrootcert"), "another's authority: {said}");
    let said = refused(&url(&server, "127.0.0.1", &trusting(&server, "ca.pem")), &right);
    assert!(said.contains("by TLS"), "another's name: {said}");
    let said = refused(&url(&server, NAME, "sslmode=disable"), &right);
    assert!(said.contains("PERMCAST_DATABASE_URL"), "in the clear: {said}");
    let said = refused(&good, &wrong);
    assert!(said.contains(PASSWORD_FILE), "a wrong password: {said}");
    let said = refused(&good, &secrets.path().join("none"));
    assert!(said.contains("database_password_file") || said.contains(PASSWORD_FILE), "no such file: {said}");
}
