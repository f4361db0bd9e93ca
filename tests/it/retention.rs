//! What is older than the log is kept for is taken away, and nobody who is served by it is the worse for it.

use std::path::Path;

use reqwest::Method;
use serde_json::json;

use crate::harness::{OPERATOR, Replica, operate, until};
use crate::socket::Socket;

const CHANGES: &str = "/v1/tenants/default/changes";

fn sql(database: &Path, statement: &str) -> String {
    let output = std::process::Command::new("sqlite3").arg(database).arg(statement).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn old_rows_go_and_everybody_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("permcast.db");
    assert_eq!(operate(&database, &["migrate"]).0, 0);
    // Written two days ago, as far as the log can tell.
    sql(
        &database,
        "UPDATE acting SET at = (SELECT now FROM clock) - 172800000; \
         INSERT INTO roles (tenant, name) SELECT no, 'old-one' FROM tenants; \
         INSERT INTO roles (tenant, name) SELECT no, 'old-two' FROM tenants; \
         UPDATE acting SET at = NULL",
    );
    let old: u64 = sql(&database, "SELECT MAX(seq) FROM changes").trim().parse().unwrap();
    assert!(old >= 2);

    let keeps = Replica::start("a", &database, None, &[]).await;
    let root = keeps.client().with(&keeps.client().login(OPERATOR).await);
    let mut socket = Socket::hello(&keeps.client(), &keeps.client().login(OPERATOR).await).await;
    let all = root.get(&format!("{CHANGES}?limit=500")).await.ok().body;
    assert_eq!((all.get("pruned_before"), &all["items"][0]["seq"]), (None, &json!(1)));

    let _prunes = Replica::start("b", &database, None, &[("PERMCAST_LOG_RETENTION", "1d")]).await;
    let left = until("the old rows are gone", async || {
        let left = root.get(&format!("{CHANGES}?limit=500")).await.ok().body;
        (left["items"][0]["seq"] == old + 1).then_some(left)
    })
    .await;
    assert_eq!(left["pruned_before"], old + 1, "who reads from the beginning is told that something is missing");
    let rest = root.get(&format!("{CHANGES}?after={old}")).await.ok().body;
    assert_eq!(rest.get("pruned_before"), None, "who was further has missed nothing");
    let mut stream = root.request(Method::GET, &format!("{CHANGES}/stream?after=0")).send().await.unwrap();
    let first = stream.chunk().await.unwrap().unwrap();
    let said = format!("event: pruned\ndata: {{\"pruned_before\":{}}}", old + 1);
    assert!(String::from_utf8_lossy(&first).contains(&said), "{first:?}");

    // Nobody is stale by it, and the log counts on.
    socket.say(json!({"type": "ping"})).await;
    socket.expect_heartbeat().await;
    root.get("/v1/me").await.ok();
    let answer = root.post("/v1/tenants/default/roles", json!({"name": "new", "permissions": ["a:b"]})).await;
    assert!(crate::client::seq(&answer.version()) > old);
}
