//! What is asked without a token.

use crate::harness::Cluster;

#[tokio::test]
async fn nobody_needs_a_token_to_see_that_it_lives() {
    let cluster = Cluster::start().await;
    let client = cluster.a.client();
    client.get("/healthz").await.ok();
    let metrics = client.get("/metrics").await.ok();
    assert!(metrics.body.as_str().unwrap().contains("permcast_"), "{metrics:?}");
    assert_eq!(client.get("/openapi.json").await.ok().body["openapi"].as_str().map(|v| &v[..2]), Some("3."));
}
