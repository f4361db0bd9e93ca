//! What a reader may demand, beside writes on two replicas.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::sync::watch;

use crate::client::{Answer, Client, send, seq};
use crate::company::company;
use crate::harness::Cluster;
use crate::shell::Shell;

fn demanding(client: &Client, method: Method, path: &str, version: &str) -> reqwest::RequestBuilder {
    client.request(method, path).header("Permcast-At-Least", version)
}

fn asked(permission: &str) -> serde_json::Value {
    json!({"subject": {"type": "user", "id": "ben"}, "resource": {"type": permission}, "action": {"name": "x"}})
}

#[tokio::test]
async fn no_reader_is_answered_below_what_he_demands() {
    let cluster = Cluster::start().await;
    let (root, root_tokens) = company(&cluster).await;
    let on_b = cluster.b.client();
    let vera = on_b.login("vera").await;
    let ben = on_b.login("ben").await;
    let root_on_b = on_b.with(&root_tokens);
    // What was acknowledged last: how many permissions ben has, and at which version.
    let (acknowledged, latest) = watch::channel((0, vera.pv.clone()));
    let write = async {
        for number in 1..=60 {
            let by = if number % 3 == 0 { &root_on_b } else { &root };
            let version = by.put(&format!("/v1/tenants/default/users/ben/permissions/p{number}:x")).await.version();
            acknowledged.send_replace((number, version));
        }
    };
    let writing = std::cell::Cell::new(true);
    let read = async |client: Client| {
        let mut answers = 0;
        while writing.get() {
            let (number, version) = latest.borrow().clone();
            let me = send(demanding(&client.with(&vera), Method::GET, "/v1/me", &version)).await.ok();
            assert!(seq(me.body["pv"].as_str().unwrap()) >= seq(&version), "{version}: {me:?}");
            if number > 0 {
                let question = asked(&format!("p{number}"));
                let request = demanding(&client.with(&vera), Method::POST, "/access/v1/evaluation", &version);
                let decided = send(request.json(&question)).await.ok();
                assert_eq!(decided.body["decision"], true, "p{number}, {version}: {decided:?}");
                let fields = [("grant_type", "refresh_token"), ("refresh_token", &ben.refresh)];
                let request = demanding(&client, Method::POST, "/oauth/token", &version).form(&fields);
                let fresh = send(request).await.ok().tokens();
                assert!(seq(&fresh.pv) >= seq(&version));
            }
            answers += 1;
        }
        answers
    };
    let write = async {
        write.await;
        writing.set(false);
    };
    let ((), at_a, at_b) = tokio::join!(write, read(cluster.a.client()), read(cluster.b.client()));
    assert!(at_a > 5 && at_b > 5, "{at_a} and {at_b} rounds of reading");

    let (_, version) = latest.borrow().clone();
    let (epoch, number) = version.split_once('.').unwrap();
    for client in [cluster.a.client(), cluster.b.client()] {
        let vera = client.with(&vera);
        for unreachable in
            [format!("{epoch}.{}", seq(&version) + 1_000), format!("zzzzzzzz.{number}"), "zzzzzzzz.1".to_owned()]
        {
            let answer = send(demanding(&vera, Method::GET, "/v1/me", &unreachable)).await;
            answer.problem(412, "unreachable-version");
        }
        for malformed in ["", "7", "-", "zzzzzzzz.", ".1", "zzzzzzzz.-1", "zzzzzzzz.1.1", "ZZZZZZZZ.1"] {
            send(demanding(&vera, Method::GET, "/v1/me", malformed)).await.problem(400, "malformed");
        }
    }
}

#[tokio::test]
async fn what_does_not_come_in_time_is_said_so_in_time() {
    // Within its bound for long, so that what fails is not its trust in itself.
    let cluster = Cluster::start_with(&[("PERMCAST_POLL_INTERVAL", "8s"), ("PERMCAST_MAX_STALENESS", "20s")]).await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let vera = on_b.with(&on_b.login("vera").await);
    let head = root.put("/v1/tenants/default/users/ben/permissions/x").await.version();
    send(demanding(&vera, Method::GET, "/v1/me", &head)).await.ok();
    let away = cluster.directory.path().with_extension("away");
    std::fs::rename(cluster.directory.path(), &away).unwrap();
    let mut shell = Shell::open(&away.join("permcast.db"));
    shell.run("UPDATE users SET status = 'suspended' WHERE id = 'cleo';").await;
    shell.kill().await;
    let next = format!("{}.{}", &head[..8], seq(&head) + 1);
    let begun = Instant::now();
    let answer = send(demanding(&vera, Method::GET, "/v1/me", &next)).await;
    let took = begun.elapsed();
    std::fs::rename(&away, cluster.directory.path()).unwrap();
    answer.problem(503, "behind");
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{answer:?}");
    assert!((Duration::from_millis(900)..Duration::from_millis(2_500)).contains(&took), "{took:?}");
    let answer = send(demanding(&vera, Method::GET, "/v1/me", &next)).await.ok();
    assert!(seq(answer.body["pv"].as_str().unwrap()) > seq(&head));
}

async fn waiting(root: &Client, permission: &str, seconds: u32) -> (Answer, Duration) {
    let path = format!("/v1/tenants/default/users/ben/permissions/{permission}");
    let begun = Instant::now();
    let answer = send(root.request(Method::PUT, &path).header("Prefer", format!("wait={seconds}"))).await.ok();
    (answer, begun.elapsed())
}

/// Who has applied it, as far as the receipt says.
fn applied(answer: &Answer) -> Vec<(String, bool)> {
    let replicas = answer.body["propagation"]["replicas"].as_array().unwrap();
    let one = |replica: &serde_json::Value| {
        (replica["id"].as_str().unwrap().to_owned(), replica["applied"].as_bool().unwrap())
    };
    let mut replicas: Vec<_> = replicas.iter().map(one).collect();
    replicas.sort();
    replicas
}

#[tokio::test]
async fn who_waits_for_a_killed_replica_waits_until_it_is_known_to_be_gone() {
    let mut cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let (answer, _) = waiting(&root, "one", 10).await;
    assert_eq!(applied(&answer), [("a".to_owned(), true), ("b".to_owned(), true)]);
    cluster.b.signal("-KILL");
    cluster.b.exited().await;
    let (answer, took) = waiting(&root, "two", 1).await;
    assert_eq!(answer.body["propagation"]["complete"], false, "{answer:?}");
    assert_eq!(applied(&answer), [("a".to_owned(), true), ("b".to_owned(), false)]);
    assert!((Duration::from_millis(950)..Duration::from_secs(3)).contains(&took), "{took:?}");
    let (answer, took) = waiting(&root, "three", 30).await;
    assert_eq!(answer.body["propagation"]["complete"], true, "{answer:?}");
    assert_eq!(applied(&answer), [("a".to_owned(), true)]);
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test]
async fn who_waits_for_a_frozen_replica_is_not_told_that_it_has_come() {
    // A replica with these settings still decides when it wakes after ten seconds.
    let cluster = Cluster::start_with(&[("PERMCAST_POLL_INTERVAL", "7s"), ("PERMCAST_MAX_STALENESS", "14s")]).await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let ben = on_b.with(&on_b.login("ben").await);
    cluster.b.signal("-STOP");
    let (answer, took) = waiting(&root, "one", 10).await;
    assert_eq!(answer.body["propagation"]["complete"], false, "{answer:?}");
    assert_eq!(applied(&answer), [("a".to_owned(), true), ("b".to_owned(), false)]);
    assert!(took >= Duration::from_millis(9_900), "{took:?}");
    let woken = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.b.signal("-CONT");
    };
    let ((answer, _), ()) = tokio::join!(waiting(&root, "two", 15), woken);
    assert_eq!(answer.body["propagation"]["complete"], true, "{answer:?}");
    assert_eq!(applied(&answer), [("a".to_owned(), true), ("b".to_owned(), true)]);
    ben.get("/v1/me").await.stale();
}
