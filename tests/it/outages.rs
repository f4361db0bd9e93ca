//! Stopped and killed processes, a held database, settings that cannot be: never a wrong answer.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::company::company;
use crate::harness::Cluster;

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
