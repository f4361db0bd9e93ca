//! Forged messages, stopped and killed processes, a held database, settings that cannot be: never a wrong answer.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::client::seq;
use crate::company::company;
use crate::harness::Cluster;
use crate::socket::Socket;

#[tokio::test]
async fn a_forged_message_makes_nobody_stale() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    let mut socket = Socket::hello(&on_b, &tokens).await;
    let pv = on_b.with(&tokens).get("/v1/me").await.ok().body["pv"].as_str().unwrap().to_owned();
    let forged = json!({ "epoch": &pv[..8], "origin": "x", "changes": [{
        "seq": 999_999, "tenant": "default", "kind": "user", "target": "ben", "user": "ben",
        "effect": "changed", "at": "2026-01-01T00:00:00Z",
    }] })
    .to_string();
    let nats = async_nats::connect(&cluster.nats.as_ref().unwrap().url).await.unwrap();
    let subject = "permcast.v1.default.changes.default";
    let mut sealed = async_nats::HeaderMap::new();
    sealed.insert("Permcast-Seal", "AAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    nats.publish(subject, forged.clone().into()).await.unwrap();
    nats.publish_with_headers(subject, sealed, forged.into()).await.unwrap();
    nats.publish(subject, "no json".into()).await.unwrap();
    nats.flush().await.unwrap();
    // A true change comes after them on the same way: when it has arrived, so have they.
    let version = root.put("/v1/tenants/default/users/ben/permissions/x").await.version();
    assert_eq!(socket.expect("permissions_changed").await["pv"], version);
    let fresh = on_b.refresh(&tokens).await;
    assert!(seq(on_b.with(&fresh).get("/v1/me").await.ok().body["pv"].as_str().unwrap()) >= seq(&version));
    let metrics = on_b.get("/metrics").await.body.to_string();
    assert!(metrics.contains("permcast_bus_rejected_total"), "they were counted");
}

#[tokio::test]
async fn a_replica_that_was_stopped_does_not_decide_from_what_it_knew() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let ben = on_b.with(&on_b.login("ben").await);
    ben.get("/v1/me").await.ok();
    cluster.b.signal("-STOP");
    root.put("/v1/tenants/default/users/ben/permissions/x").await.version();
    // The bound is a second of anybody's time, and what passes while a process is stopped must count.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let woken = async { cluster.b.signal("-CONT") };
    let (answer, ()) = tokio::join!(ben.get("/v1/me"), woken);
    assert!(matches!(answer.status.as_u16(), 401 | 503), "{answer:?}");
}

#[tokio::test]
async fn a_held_database_refuses_writes_and_loses_nothing() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let mut shell = Command::new("sqlite3")
        .arg(cluster.directory.path().join("permcast.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    let mut output = std::io::BufReader::new(shell.stdout.take().unwrap());
    std::io::Write::write_all(&mut input, b".timeout 5000\nBEGIN IMMEDIATE; SELECT 'held';\n").unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line.trim(), "held");
    let path = "/v1/tenants/default/users/ben/permissions/x";
    let refused = root.put(path).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(root.get("/readyz").await.status, 200, "reading goes on beside a writer");
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert!(root.put(path).await.ok().body["change"]["seq"].is_number(), "the refused one had not been done");
}

#[tokio::test]
async fn an_acknowledged_change_survives_the_death_of_its_replica() {
    let mut cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let version = root.put("/v1/tenants/default/users/ben/permissions/x").await.version();
    cluster.a.signal("-KILL");
    cluster.a.exited().await;
    let on_b = cluster.b.client();
    let ben = on_b.with(&on_b.login("ben").await);
    let me =
        crate::client::send(ben.request(reqwest::Method::GET, "/v1/me").header("Permcast-At-Least", version)).await;
    let permissions = me.ok().body["permissions"].to_string();
    assert!(permissions.contains("\"x\""), "{permissions}");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let cluster = Cluster::without_broker().await;
    let folder = cluster.directory.path();
    let refused = |settings: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_permcast"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .current_dir(folder)
            .envs(settings.iter().copied())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let url = format!("sqlite://{}", folder.join("permcast.db").display());
    let database = ("PERMCAST_DATABASE_URL", url.as_str());
    assert!(refused(&[database, ("PERMCAST_ISSUER", "https://elsewhere.example")]).contains("issuer"));
    let both = refused(&[database, ("PERMCAST_ON_STALE", "panic"), ("PERMCAST_POLL_INTERVAL", "soon")]);
    assert!(both.contains("on_stale") && both.contains("poll_interval"), "{both}");
    std::fs::write(folder.join("text.db"), "this is no database, whatever its name says".repeat(100)).unwrap();
    let other = format!("sqlite://{}", folder.join("text.db").display());
    assert!(!refused(&[("PERMCAST_DATABASE_URL", other.as_str())]).is_empty());
}
