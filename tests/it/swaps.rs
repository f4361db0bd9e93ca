//! Somebody lays hands on the database's files under two running replicas.

use std::path::Path;

use crate::client::{Answer, Client, Tokens};
use crate::company::company;
use crate::harness::{Cluster, OPERATOR, PASSWORD, until};
use crate::socket::{Next, Socket};

const SETTINGS: &[(&str, &str)] = &[("PERMCAST_MAX_STALENESS", "300ms"), ("PERMCAST_POLL_INTERVAL", "20ms")];
const TAKE: &str = "/v1/tenants/default/users/ben/roles/editor";

fn companion(database: &Path, suffix: &str) -> std::path::PathBuf {
    std::path::PathBuf::from(format!("{}{suffix}", database.display()))
}

/// What a token of what is gone may be answered: it is refused, or nothing is decided.
fn is_refused(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 401 | 503)
}

/// An older copy, and one who has signed in since and is connected to `b`.
async fn older_copy(cluster: &Cluster) -> (std::path::PathBuf, Tokens, Socket) {
    let (root, _) = company(cluster).await;
    let older = cluster.backup("older.db");
    root.delete(TAKE).await.version();
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    on_b.with(&tokens).get("/v1/me").await.ok();
    let socket = Socket::hello(&on_b, &tokens).await;
    (older, tokens, socket)
}

/// Both replicas come to one new epoch by themselves, in which they work; of what was before nothing is worth anything.
async fn begins_anew(cluster: &Cluster, tokens: &Tokens, mut socket: Socket) {
    let epoch = |version: &str| version.split_once('.').unwrap().0.to_owned();
    let mut epochs = Vec::new();
    for client in [cluster.a.client(), cluster.b.client()] {
        let came = until("a new epoch", async || {
            let answer = client.sign_in("default", "ben", PASSWORD).await;
            let pv = answer.body["pv"].as_str().unwrap_or_default().to_owned();
            (!pv.is_empty() && epoch(&pv) != epoch(&tokens.pv)).then(|| epoch(&pv))
        });
        epochs.push(came.await);
        let answer = client.with(tokens).get("/v1/me").await;
        assert!(is_refused(&answer), "{answer:?}");
        assert_eq!(client.try_refresh(&tokens.refresh).await.status, 400);
    }
    assert_eq!(epochs[0], epochs[1]);
    while let Next::Message(told) = socket.next().await {
        assert!(matches!(told["type"].as_str().unwrap(), "permissions_changed" | "session_revoked"), "{told}");
    }
    let (root, on_b) = (signed_in(&cluster.a.client()).await, cluster.b.client());
    let ben = on_b.with(&on_b.login("ben").await);
    assert!(ben.get("/v1/me").await.ok().body["roles"].to_string().contains("editor"), "as it was in the older copy");
    let version = root.delete(TAKE).await.version();
    until("the change on the other replica", async || {
        let answer = ben.get("/v1/me").await;
        (answer.status == 401).then(|| assert_eq!(answer.stale(), version))
    })
    .await;
    assert_eq!(cluster.sql("PRAGMA integrity_check").trim(), "ok");
}

async fn signed_in(client: &Client) -> Client {
    client.with(&client.login(OPERATOR).await)
}

#[tokio::test]
async fn an_older_copy_in_its_place_begins_another_epoch() {
    for on_stale in ["deny", "lookup"] {
        let cluster = Cluster::start_with(&[SETTINGS, &[("PERMCAST_ON_STALE", on_stale)]].concat()).await;
        let (older, tokens, socket) = older_copy(&cluster).await;
        let database = cluster.database();
        let gone = cluster.directory.path().join("gone.db");
        std::fs::rename(companion(&database, "-shm"), companion(&gone, "-shm")).unwrap();
        std::fs::rename(companion(&database, "-wal"), companion(&gone, "-wal")).unwrap();
        std::fs::rename(&older, &database).unwrap();
        begins_anew(&cluster, &tokens, socket).await;
    }
}

#[tokio::test]
async fn so_does_one_that_is_written_into_the_very_file() {
    let cluster = Cluster::start_with(SETTINGS).await;
    let (older, tokens, socket) = older_copy(&cluster).await;
    cluster.shell(&[&format!(".restore '{}'", older.display())]);
    begins_anew(&cluster, &tokens, socket).await;
}

#[tokio::test]
async fn and_one_to_which_others_wrote_before_anybody_looked() {
    let cluster = Cluster::start_with(SETTINGS).await;
    let (older, tokens, socket) = older_copy(&cluster).await;
    for replica in [&cluster.a, &cluster.b] {
        replica.signal("-STOP");
    }
    cluster.shell(&[&format!(".restore '{}'", older.display())]);
    // The log is as long as it was, and longer.
    let grant =
        |name: &str| format!("INSERT INTO user_permissions SELECT no, '{name}', NULL FROM users WHERE id = 'cleo';");
    cluster.sql(&["x", "y", "z"].map(grant).concat());
    for replica in [&cluster.a, &cluster.b] {
        replica.signal("-CONT");
    }
    begins_anew(&cluster, &tokens, socket).await;
}

#[tokio::test]
async fn nothing_is_decided_or_acknowledged_while_it_is_gone() {
    let cluster = Cluster::start_with(SETTINGS).await;
    let (root, _) = company(&cluster).await;
    let ben = cluster.b.client().with(&cluster.b.client().login("ben").await);
    let database = cluster.database();
    let away = cluster.directory.path().join("away.db");
    for suffix in ["", "-wal", "-shm"] {
        std::fs::rename(companion(&database, suffix), companion(&away, suffix)).unwrap();
    }
    let refused = root.delete(TAKE).await;
    // On a slow machine the replica may have ended its trust before.
    assert_eq!(refused.status, 503, "{refused:?}");
    until("the end of its trust", async || (ben.get("/v1/me").await.status == 503).then_some(())).await;
    assert_eq!(ben.get("/v1/me").await.status, 503);
    let kept = |path: &Path| {
        let output = std::process::Command::new("sqlite3").arg(path).arg("SELECT max(seq) FROM changes").output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let head = kept(&away);
    for suffix in ["-shm", "-wal", ""] {
        std::fs::rename(companion(&away, suffix), companion(&database, suffix)).unwrap();
    }
    // It is the same again, and nothing is lost or stale.
    for client in [&ben, &root] {
        until("its trust", async || (client.get("/v1/me").await.status == 200).then_some(())).await;
    }
    assert_eq!(kept(&database), head);
    root.delete(TAKE).await.version();
}

#[tokio::test]
async fn an_epoch_that_ended_does_not_come_back() {
    let cluster = Cluster::start_with(SETTINGS).await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    let older = cluster.backup("older.db");
    assert_eq!(cluster.operate(&["restore", older.to_str().unwrap()]).0, 0);
    for client in [cluster.a.client(), on_b.clone()] {
        until("the new epoch", async || (client.with(&tokens).get("/v1/me").await.status == 401).then_some(())).await;
    }
    // Until the new log was read it is stale, and no more is known.
    until("the end of the session", async || {
        (root.get("/v1/me").await.body["type"] == "/problems/session-ended").then_some(())
    })
    .await;
    cluster.shell(&[&format!(".restore '{}'", older.display())]);
    let epoch = |version: &str| version.split_once('.').unwrap().0.to_owned();
    until("a third epoch", async || {
        let answer = on_b.with(&tokens).get("/v1/me").await;
        assert!(is_refused(&answer), "{answer:?}");
        cluster.sql("SELECT epoch FROM meta").trim().ne(&epoch(&tokens.pv)).then_some(())
    })
    .await;
    assert!(is_refused(&on_b.with(&tokens).get("/v1/me").await));
    assert_eq!(on_b.try_refresh(&tokens.refresh).await.status, 400);
}

#[tokio::test]
async fn a_file_beside_anothers_write_ahead_log_is_not_opened() {
    let cluster = Cluster::start_with(SETTINGS).await;
    let (older, tokens, socket) = older_copy(&cluster).await;
    let database = cluster.database();
    std::fs::rename(&older, &database).unwrap();
    let on_b = cluster.b.client();
    let ben = on_b.with(&tokens);
    until("the end of its trust", async || (ben.get("/v1/me").await.status == 503).then_some(())).await;
    for _ in 0..20 {
        assert_eq!(ben.get("/v1/me").await.status, 503);
        assert_eq!(on_b.sign_in("default", OPERATOR, PASSWORD).await.status, 503);
    }
    for suffix in ["-shm", "-wal"] {
        std::fs::remove_file(companion(&database, suffix)).unwrap();
    }
    begins_anew(&cluster, &tokens, socket).await;
}

#[tokio::test]
async fn a_database_made_anew_in_its_place_is_another_epoch() {
    let cluster = Cluster::start_with(SETTINGS).await;
    let (root, _) = company(&cluster).await;
    let ben = cluster.b.client().with(&cluster.b.client().login("ben").await);
    let database = cluster.database();
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(companion(&database, suffix)).unwrap();
    }
    assert_eq!(cluster.operate(&["migrate"]).0, 0);
    until("the end of what was", async || (ben.get("/v1/me").await.status == 401).then_some(())).await;
    assert!(is_refused(&root.put("/v1/tenants/default/users/ben/permissions/x").await));
    assert_eq!(cluster.sql("SELECT count(*) FROM users").trim(), "0");
}
