//! The canary on real replicas: every stage becomes a figure, and nobody else notices.

use crate::client::Client;
use crate::company::company;
use crate::harness::{Cluster, until};
use crate::socket::Socket;

/// The sum and the number of what a histogram or counter has seen.
async fn figure(client: &Client, series: &str) -> f64 {
    let text = client.get("/metrics").await.ok().body.as_str().unwrap().to_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{series} in {text}"));
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn each_replica_in_turn_measures_every_stage_and_disturbs_nobody() {
    let cluster = Cluster::start_with(&[("PERMCAST_CANARY", "100ms")]).await;
    let (root, _) = company(&cluster).await;
    let client = cluster.b.client();
    let tokens = client.login("ben").await;
    let _socket = Socket::hello(&client, &tokens).await;
    let head = root.get("/v1/tenants/default/changes?limit=1000").await.ok().body["items"].as_array().unwrap().len();

    for replica in [&cluster.a, &cluster.b] {
        let client = replica.client();
        until("two whole probes", async || {
            let probes = figure(&client, "permcast_canary_probes_total{outcome=\"complete\"}").await;
            (probes >= 2.0).then_some(())
        })
        .await;
        for stage in ["applied", "all_replicas", "socket"] {
            let series = |what: &str| format!("permcast_freshness_seconds_{what}{{stage=\"{stage}\"}}");
            let (count, sum) = (figure(&client, &series("count")).await, figure(&client, &series("sum")).await);
            assert!(count >= 2.0, "{stage}");
            assert!(sum > 0.0 && sum / count < 1.0, "{stage}: {sum} s in {count} probes");
        }
        assert!(figure(&client, "permcast_canary_probes_total{outcome=\"failed\"}").await <= 1.0, "at the first start");
    }
    // Nothing of it is in anybody's log, and nobody's token became stale.
    let changes = root.get("/v1/tenants/default/changes?limit=1000").await.ok();
    assert_eq!(changes.body["items"].as_array().unwrap().len(), head);
    client.with(&tokens).get("/v1/me").await.ok();
    let own = root.get("/v1/tenants/permcast-canary/changes?limit=1000").await.ok();
    let own = own.body["items"].as_array().unwrap();
    assert!(own.iter().any(|row| row["actor"] == "canary" && row["kind"] == "user" && row["target"] == "canary"));
    assert!(own.iter().all(|row| row["kind"] != "everyone" && row["kind"] != "role"), "{own:?}");
    // Nobody can be the canary.
    client.sign_in("permcast-canary", "canary", "x").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn without_a_broker_it_says_how_late_the_other_replica_is() {
    let cluster = Cluster::start_by([None, None], &[("PERMCAST_CANARY", "200ms")]).await;
    let client = cluster.a.client();
    let mean = async |stage: &str| {
        let series = |what: &str| format!("permcast_freshness_seconds_{what}{{stage=\"{stage}\"}}");
        figure(&client, &series("sum")).await / figure(&client, &series("count")).await.max(1.0)
    };
    // Once the other is known to run. It says so by the database, a moment after it has applied it.
    until("a probe of both", async || (mean("all_replicas").await > mean("applied").await).then_some(())).await;
}
