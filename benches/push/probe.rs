//! Decisions beside a load: does the rest of the server go on?

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::clock::now;
use super::http::Http;
use super::subject::Way;

/// Asks for a decision every few milliseconds as long as `load` takes; answers with it how long each took.
pub async fn run<T>(way: &Way, server: SocketAddr, load: impl Future<Output = T>) -> (T, Vec<u64>) {
    let Way::Permcast { operator, .. } = way else { return (load.await, Vec::new()) };
    let question = json!({
        "subject": { "type": "user", "id": "u7" }, "action": { "name": "read" }, "resource": { "type": "invoices" },
    });
    let mut took = Vec::new();
    let mut load = std::pin::pin!(load);
    let mut http = Http::new(server);
    let mut every = tokio::time::interval(Duration::from_millis(5));
    loop {
        let ask = async {
            every.tick().await;
            let begun = now();
            http.json("POST", "/access/v1/evaluation", operator, Some(&question)).await.ok();
            now() - begun
        };
        tokio::select! {
            biased;
            done = &mut load => return (done, took),
            nanos = ask => took.push(nanos),
        }
    }
}

/// Refreshes a second that the server takes, as its metrics say.
pub async fn budget(server: SocketAddr) -> f64 {
    let answer = Http::new(server).json("GET", "/metrics", "", None).await.ok();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("permcast_refresh_budget "));
    line.and_then(|number| number.parse().ok()).expect("the server says its budget")
}
