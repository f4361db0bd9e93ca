//! What happens when something is not there.

use serde_json::json;

use crate::company::company;
use crate::harness::{Cluster, until};
use crate::socket::Socket;

#[tokio::test]
async fn a_lost_broker_loses_no_change() {
    let mut cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    assert_eq!(on_b.get("/readyz").await.ok().body["broker"], "up");
    let tokens = on_b.login("ben").await;
    let mut socket = Socket::hello(&on_b, &tokens).await;
    cluster.nats.as_mut().unwrap().kill().await;

    let version = root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    assert_eq!(socket.expect("permissions_changed").await["pv"], version);
    assert_eq!(on_b.with(&tokens).get("/v1/me").await.stale(), version);

    let ready = until("what is known of the broker", async || {
        let ready = on_b.get("/readyz").await;
        (ready.body["broker"] == "down").then_some(ready)
    })
    .await;
    assert_eq!(ready.status, 200, "a lost broker alone is not unready");
    assert_eq!((&ready.body["database"], &ready.body["feed"]), (&json!("up"), &json!("up")));
    assert!(ready.body["lag_ms"].is_number());
}

#[tokio::test]
async fn a_broker_that_never_was_there_is_no_reason_not_to_start() {
    let cluster = Cluster::start_with(&[("PERMCAST_NATS_URL", "nats://127.0.0.1:1")]).await;
    let (root, _) = company(&cluster).await;
    let ready = root.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), &ready.body["broker"]), (200, &json!("down")));
    root.put("/v1/tenants/default/users/ben/permissions/x").await.version();
}

#[tokio::test]
async fn nobody_needs_a_token_to_see_that_it_lives() {
    let cluster = Cluster::start().await;
    let client = cluster.a.client();
    client.get("/healthz").await.ok();
    let metrics = client.get("/metrics").await.ok();
    assert!(metrics.body.as_str().unwrap().contains("permcast_"), "{metrics:?}");
    assert_eq!(client.get("/openapi.json").await.ok().body["openapi"].as_str().map(|v| &v[..2]), Some("3."));
}

#[tokio::test]
async fn an_older_copy_of_the_database_decides_nothing() {
    for on_stale in ["deny", "lookup"] {
        let settings =
            [("PERMCAST_ON_STALE", on_stale), ("PERMCAST_MAX_STALENESS", "200ms"), ("PERMCAST_POLL_INTERVAL", "20ms")];
        let cluster = Cluster::start_with(&settings).await;
        let (root, _) = company(&cluster).await;
        let on_b = cluster.b.client();
        let database = cluster.database();
        let older = database.with_extension("older");
        cluster.sql(&format!("VACUUM INTO '{}'", older.display()));
        let version = root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
        let ben = on_b.with(&on_b.login("ben").await);
        ben.get("/v1/me").await.ok();

        for suffix in ["-wal", "-shm"] {
            let name = format!("{}{suffix}", database.display());
            std::fs::rename(&name, format!("{name}.gone")).unwrap();
        }
        std::fs::rename(&older, &database).unwrap();
        until("the end of its trust", async || (ben.get("/v1/me").await.status == 503).then_some(())).await;
        for _ in 0..20 {
            let answer = ben.get("/v1/me").await;
            assert_eq!(answer.status, 503, "{on_stale}: {answer:?}, and {version} is not in it");
            assert!(!answer.header("retry-after").is_empty());
        }
        let refused = root.put("/v1/tenants/default/users/cleo/permissions/x").await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert_eq!(cluster.sql("SELECT count(*) FROM user_permissions WHERE permission = 'x'").trim(), "0");
    }
}

#[tokio::test]
async fn a_broker_that_asks_who_one_is_is_told() {
    let nats = crate::harness::Nats::guarded("permcast", "mellon").await;
    let cluster = Cluster::start_with(&[("PERMCAST_NATS_URL", &nats.url)]).await;
    let client = cluster.a.client();
    until("the broker to let us in", async || {
        let ready = client.get("/readyz").await.ok();
        (ready.body["broker"] == "up").then_some(())
    })
    .await;
}
