//! `permcast lab` as an operator runs it, with a broker.

use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Cluster, soon};

#[tokio::test]
async fn a_run_with_a_broker_holds_a_change_against_the_network() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().unwrap();
    let nats = cluster.nats.as_ref().unwrap();
    let run = tokio::process::Command::new(env!("CARGO_BIN_EXE_permcast"))
        .args(["lab", "--only", "arrival", "--seconds", "1", "--json", "--nats-url", &nats.url])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = soon("a run", run).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let p50 = |what: &str| {
        let row = rows.iter().find(|row| row["what"].as_str().unwrap().starts_with(what));
        row.and_then(|row| row["p50_ns"].as_f64()).unwrap_or_else(|| panic!("{what} in {rows:?}"))
    };
    for what in [
        "commit → applied",
        "commit → frame at a client of another replica, by NATS",
        "NATS publish → receive",
        "200 bytes",
    ] {
        assert!(p50(what) > 0.0, "{what}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}
