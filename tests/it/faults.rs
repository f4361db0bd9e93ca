//! What fails costs time, never a wrong answer.

use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::harness::{DEADLINE, Deployment, Nats, Process};

#[tokio::test]
async fn without_its_broker_a_change_still_arrives_and_nobody_is_unready() {
    let mut d = Deployment::start(2, true).await;
    d.make_user("ben").await;
    let (token, _) = d.login(1, "ben").await;
    let mut socket = d.welcomed(1, &token).await;
    let port = d.nats.take().unwrap().port();
    let down = d.until_ready(1, |answer| answer.body["broker"] == "down").await;
    assert_eq!(down.status, 200, "{down:?}");
    let done = d.administer(0, Method::PUT, "users/ben/permissions/invoices:read", None).await;
    assert_eq!(socket.next("permissions_changed").await["pv"].as_str().unwrap(), done.version());
    d.nats = Some(Nats::on(&port));
    d.until_ready(1, |answer| answer.body["broker"] == "up").await;
    let text = d.call(1, Method::GET, "/metrics", "", None).await;
    assert!(text.body.as_str().unwrap().contains("permcast_lag_seconds"), "{text:?}");
}

#[tokio::test]
async fn a_forged_message_makes_nobody_stale() {
    let d = Deployment::start(1, true).await;
    d.make_user("ben").await;
    let (token, _) = d.login(0, "ben").await;
    let mut socket = d.welcomed(0, &token).await;
    let me = d.call(0, Method::GET, "/v1/me", &token, None).await.ok();
    let epoch = me["pv"].as_str().unwrap().split_once('.').unwrap().0.to_owned();
    let forged = json!({ "epoch": epoch, "origin": "x", "changes": [{
        "seq": 999_999, "tenant": "default", "kind": "user", "target": "ben", "user": "ben",
        "effect": "changed", "at": "2026-01-01T00:00:00Z",
    }] });
    let nats = async_nats::connect(d.nats.as_ref().unwrap().url()).await.unwrap();
    let subject = "permcast.v1.default.changes.default";
    let mut sealed = async_nats::HeaderMap::new();
    sealed.insert("Permcast-Seal", "AAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    nats.publish(subject, forged.to_string().into()).await.unwrap();
    nats.publish_with_headers(subject, sealed, forged.to_string().into()).await.unwrap();
    nats.publish(subject, "no json".into()).await.unwrap();
    nats.flush().await.unwrap();
    // A true change comes after them on the same way: when it has arrived, so have they.
    let done = d.administer(0, Method::PUT, "users/ben/permissions/invoices:read", None).await;
    assert_eq!(socket.next("permissions_changed").await["pv"].as_str().unwrap(), done.version());
    let (fresh, _) = d.login(0, "ben").await;
    d.call(0, Method::GET, "/v1/me", &fresh, None).await.ok();
    let rejected = d.call(0, Method::GET, "/metrics", "", None).await.body;
    assert!(rejected.as_str().unwrap().contains("permcast_bus_rejected_total"), "counted");
}

#[tokio::test]
async fn a_replica_that_was_stopped_does_not_decide_from_what_it_knew() {
    let d = Deployment::start(2, true).await;
    d.make_user("ben").await;
    let (token, _) = d.login(1, "ben").await;
    d.call(1, Method::GET, "/v1/me", &token, None).await.ok();
    d.replicas[1].process.signal("-STOP");
    d.administer(0, Method::PUT, "users/ben/permissions/invoices:read", None).await.ok();
    // The bound is one second of anybody's time; the process must see that it passed.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let asked = d.call(1, Method::GET, "/v1/me", &token, None);
    let woken = async { d.replicas[1].process.signal("-CONT") };
    let (answer, ()) = tokio::join!(asked, woken);
    assert!(matches!(answer.status.as_u16(), 401 | 503), "{answer:?}");
}

#[tokio::test]
async fn a_locked_database_refuses_and_loses_nothing() {
    let d = Deployment::start(1, false).await;
    d.make_user("ben").await;
    let mut shell =
        Command::new("sqlite3").arg(d.database()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = shell.stdin.take().unwrap();
    let mut output = std::io::BufReader::new(shell.stdout.take().unwrap());
    let shell = Process(shell);
    std::io::Write::write_all(&mut input, b".timeout 5000\nBEGIN IMMEDIATE; SELECT 'locked';\n").unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line.trim(), "locked");
    let before = d.head();
    let refused = d.administer(0, Method::PUT, "users/ben/permissions/invoices:read", None).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"));
    // Reading goes on beside a writer.
    assert_eq!(d.ready(0).await.status, 200);
    drop((input, shell));
    let done = d.administer(0, Method::PUT, "users/ben/permissions/invoices:read", None).await;
    assert_eq!(done.body["change"]["seq"], before + 1, "the refused one is not there");
}

#[tokio::test]
async fn a_stopping_replica_tells_its_clients_to_come_back() {
    let mut d = Deployment::start(1, false).await;
    let mut socket = d.welcomed(0, &d.ada).await;
    d.replicas[0].process.signal("-TERM");
    socket.next("draining").await;
    assert_eq!(socket.close_code().await, 1012);
    let ended = tokio::task::spawn_blocking(move || d.replicas[0].process.0.wait().unwrap());
    assert!(tokio::time::timeout(DEADLINE, ended).await.unwrap().unwrap().success());
}

#[tokio::test]
async fn an_acknowledged_change_survives_the_death_of_its_replica() {
    let mut d = Deployment::start(1, false).await;
    d.make_user("ben").await;
    let done = d.administer(0, Method::PUT, "users/ben/permissions/invoices:read", None).await.version();
    d.replicas.clear();
    d.add_replica("again", &[]);
    let (token, _) = d.login(0, "ben").await;
    let me = d.call_with(0, Method::GET, "/v1/me", &token, None, &[("Permcast-At-Least", &done)]).await.ok();
    assert_eq!(me["permissions"], json!(["invoices:read"]));
}

#[tokio::test]
async fn what_cannot_start_says_why_and_changes_nothing() {
    let d = Deployment::start(1, false).await;
    let url = format!("sqlite://{}", d.database().display());
    let refused = |settings: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_permcast"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .current_dir(d.folder())
            .envs(settings.iter().copied())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let database = ("PERMCAST_DATABASE_URL", url.as_str());
    assert!(refused(&[database, ("PERMCAST_ISSUER", "https://elsewhere.example")]).contains("issuer"));
    let both = refused(&[database, ("PERMCAST_ON_STALE", "panic"), ("PERMCAST_POLL_INTERVAL", "soon")]);
    assert!(both.contains("on_stale") && both.contains("poll_interval"), "{both}");
    std::fs::write(d.folder().join("text.db"), "this is no database, whatever its name says".repeat(100)).unwrap();
    let other = format!("sqlite://{}", d.folder().join("text.db").display());
    assert!(!refused(&[("PERMCAST_DATABASE_URL", other.as_str())]).is_empty());
}
