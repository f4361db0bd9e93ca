//! Which of a user's sessions are connected, wherever that is.

use serde_json::{Value, json};

use crate::client::{Client, Tokens};
use crate::company::company;
use crate::harness::{Cluster, until};
use crate::socket::Socket;

const SESSIONS: &str = "/v1/tenants/default/users/ben/sessions";

/// What the list says of these sessions.
async fn connected<const N: usize>(root: &Client, of: [&Tokens; N]) -> [Value; N] {
    let list = root.get(SESSIONS).await.ok().body;
    of.map(|tokens| {
        let items = list["items"].as_array().unwrap();
        items.iter().find(|item| item["id"] == tokens.session()).unwrap()["connected"].clone()
    })
}

#[tokio::test]
async fn a_list_of_sessions_tells_who_is_connected_to_any_replica() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let (tab, phone, away) = (on_b.login("ben").await, on_a.login("ben").await, on_a.login("ben").await);
    let (_tab, on_phone) = (Socket::hello(&on_b, &tab).await, Socket::hello(&on_a, &phone).await);
    until("both have answered", async || {
        (connected(&root, [&tab, &phone, &away]).await == [json!(true), json!(true), json!(false)]).then_some(())
    })
    .await;
    drop(on_phone);
    until("the phone is gone", async || {
        (connected(&root, [&tab, &phone, &away]).await == [json!(true), json!(false), json!(false)]).then_some(())
    })
    .await;

    cluster.b.signal("-STOP");
    let said = connected(&root, [&tab, &phone, &away]).await;
    cluster.b.signal("-CONT");
    assert_eq!(said, [json!(null), json!(null), json!(null)], "who does not answer may have any of them");
    until("it answers again", async || {
        (connected(&root, [&tab, &away]).await == [json!(true), json!(false)]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_broker_a_replica_knows_its_own_connections_alone() {
    let cluster = Cluster::without_broker().await;
    let (root, _) = company(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let (here, there) = (on_a.login("ben").await, on_b.login("ben").await);
    let (_here, _there) = (Socket::hello(&on_a, &here).await, Socket::hello(&on_b, &there).await);
    until("the replica knows of the other", async || {
        (connected(&root, [&here, &there]).await == [json!(true), json!(null)]).then_some(())
    })
    .await;
}
