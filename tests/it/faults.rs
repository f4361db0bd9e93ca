//! What is asked without a token, and a database that is not the one it was.

use crate::company::company;
use crate::harness::{Cluster, until};

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
