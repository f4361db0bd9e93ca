//! A backup is put back under running replicas, beside one that is down, and where there was none.

use futures_util::StreamExt as _;

use crate::client::{Client, Tokens, seq};
use crate::company::company;
use crate::harness::{Cluster, ISSUER, OPERATOR, PASSWORD, Replica, operate, soon, until};
use crate::socket::{Next, Socket};

fn epoch(version: &str) -> &str {
    version.split_once('.').unwrap().0
}

/// Waits until it has come to another epoch, where a token of the old one is worth nothing; gives the new one.
async fn leaves(client: &Client, old: &Tokens) -> String {
    let new = until("another epoch", async || {
        let signed_in = client.sign_in("default", OPERATOR, PASSWORD).await;
        let pv = signed_in.body["pv"].as_str().unwrap_or_default();
        (!pv.is_empty() && epoch(pv) != epoch(&old.pv)).then(|| epoch(pv).to_owned())
    })
    .await;
    let answer = client.with(old).get("/v1/me").await;
    assert_eq!(answer.status, 401, "{answer:?}");
    new
}

#[tokio::test]
async fn after_a_restore_everything_older_is_stale_and_everybody_is_told() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let backup = cluster.backup("backup.db");
    root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let tokens = on_b.login("ben").await;
    let mut sockets = [Socket::hello(&on_a, &on_a.login("cleo").await).await, Socket::hello(&on_b, &tokens).await];

    let (code, said) = cluster.operate(&["restore", backup.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    for word in ["epoch", "head", "users", "all ended", epoch(&tokens.pv)] {
        assert!(said.contains(word), "{word} in {said}");
    }
    for socket in &mut sockets {
        loop {
            match socket.next().await {
                Next::Message(message) => assert!(
                    matches!(message["type"].as_str().unwrap(), "permissions_changed" | "session_revoked"),
                    "{message}"
                ),
                Next::Closed(code) => break assert_eq!(code, 4403),
            }
        }
    }
    let mut news = Vec::new();
    for client in [&on_a, &on_b] {
        news.push(leaves(client, &tokens).await);
        assert_eq!(client.try_refresh(&tokens.refresh).await.status, 400);
    }
    assert_eq!(news[0], news[1], "one epoch for all");

    // It is as it was, and goes on.
    let again = on_b.login("ben").await;
    let me = on_b.with(&again).get("/v1/me").await.ok();
    assert_eq!(me.body["roles"], serde_json::json!(["editor", "viewer"]));
    let mut socket = Socket::hello(&on_b, &again).await;
    let root = on_a.with(&on_a.login(OPERATOR).await);
    let version = root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    assert_eq!(epoch(&version), news[0]);
    assert_eq!(socket.expect("permissions_changed").await["pv"], version);
}

#[tokio::test]
async fn sessions_that_are_kept_on_purpose_refresh_into_the_new_epoch() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    let mut socket = Socket::hello(&on_b, &tokens).await;
    let backup = cluster.backup("backup.db");
    let late = on_b.login("ben").await;
    let (code, said) = cluster.operate(&["restore", "--keep-sessions", backup.to_str().unwrap()]);
    assert!(code == 0 && said.contains("kept"), "{said}");

    let told = socket.expect("permissions_changed").await["pv"].as_str().unwrap().to_owned();
    assert_ne!(epoch(&told), epoch(&tokens.pv));
    on_b.with(&tokens).get("/v1/me").await.stale();
    let fresh = on_b.refresh(&tokens).await;
    assert_eq!(epoch(&fresh.pv), epoch(&told));
    on_b.with(&fresh).get("/v1/me").await.ok();
    assert_eq!(on_b.try_refresh(&late.refresh).await.status, 400, "the backup does not know this session");
}

#[tokio::test]
async fn a_replica_that_was_down_comes_back_in_the_new_epoch() {
    let mut cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let backup = cluster.backup("backup.db");
    root.put("/v1/tenants/default/users/ben/permissions/x").await.version();
    let old = cluster.b.client().login("ben").await;
    cluster.a.signal("-KILL");
    cluster.a.exited().await;
    cluster.b.signal("-STOP");
    assert_eq!(cluster.operate(&["restore", backup.to_str().unwrap()]).0, 0);
    cluster.b.signal("-CONT");
    let back = cluster.another("a").await;
    for client in [back.client(), cluster.b.client()] {
        let new = leaves(&client, &old).await;
        let ben = client.login("ben").await;
        assert_eq!(epoch(&ben.pv), new);
        assert!(!client.with(&ben).get("/v1/me").await.ok().body["permissions"].to_string().contains('x'));
    }
}

#[tokio::test]
async fn the_seal_is_the_epochs_own() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let nats = async_nats::connect(&cluster.nats.as_ref().unwrap().url).await.unwrap();
    let mut messages = nats.subscribe("permcast.v1.default.replicas").await.unwrap();
    nats.flush().await.unwrap();
    // Which replica seals with which key, by the key's id.
    let mut next = async || {
        let message = soon("an announcement", messages.next()).await.unwrap();
        let said: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        let seal = message.headers.unwrap().get("Permcast-Seal").unwrap().to_string();
        (said["id"].as_str().unwrap().to_owned(), seal.split_once('.').unwrap().0.to_owned())
    };
    let before = next().await.1;
    let backup = cluster.backup("backup.db");
    assert_eq!(cluster.operate(&["restore", backup.to_str().unwrap()]).0, 0);
    let mut now = std::collections::BTreeMap::new();
    while now.len() < 2 {
        let (id, key) = next().await;
        if key != before {
            now.insert(id, key);
        }
    }
    assert_eq!(now["a"], now["b"]);
}

#[tokio::test]
async fn a_backup_becomes_a_database_where_there_was_none() {
    let cluster = Cluster::without_broker().await;
    company(&cluster).await;
    let backup = cluster.backup("backup.db");
    let elsewhere = tempfile::tempdir().unwrap();
    let database = elsewhere.path().join("permcast.db");
    let (code, said) = operate(&database, &["restore", backup.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    let replica = Replica::start("a", &database, None, &[("PERMCAST_ISSUER", ISSUER)]).await;
    let client = replica.client();
    let ben = client.login("ben").await;
    assert!(seq(&ben.pv) > 0);
    client.with(&ben).get("/v1/me").await.ok();
    // The one that it was taken from has nothing to do with it.
    assert_eq!(cluster.a.client().with(&ben).get("/v1/me").await.status, 401);
}

#[tokio::test]
async fn what_is_no_backup_is_refused_and_nothing_changes() {
    let cluster = Cluster::without_broker().await;
    let (root, _) = company(&cluster).await;
    let backup = cluster.backup("backup.db");
    let newer = cluster.directory.path().join("newer.db");
    std::fs::copy(&backup, &newer).unwrap();
    let marked = std::process::Command::new("sqlite3").arg(&newer).arg("PRAGMA user_version = 999").status().unwrap();
    assert!(marked.success());
    let before = cluster.sql("SELECT epoch, (SELECT max(seq) FROM changes) FROM meta");
    for (path, why) in
        [(newer.to_str().unwrap(), "newer permcast"), ("nowhere.db", "no file"), ("/dev/null", "no file")]
    {
        let (code, said) = cluster.operate(&["restore", path]);
        assert!(code == 2 && said.contains(why), "{path}: {code} {said}");
    }
    assert_eq!(cluster.sql("SELECT epoch, (SELECT max(seq) FROM changes) FROM meta"), before);
    root.get("/v1/me").await.ok();
}
