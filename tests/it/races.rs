//! Two replicas that do at the same moment what only one of them may.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::client::{Answer, Client, send, seq};
use crate::company::company;
use crate::harness::{Cluster, OPERATOR, PASSWORD, until};
use crate::shell::Shell;

const TENANT: &str = "/v1/tenants/default";

/// Both at once, each released when the other is ready; one of them a little later, by turns, so that every order comes.
async fn together<A, B>(round: u64, one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let barrier = Barrier::new(2);
    let (first, second) = match round % 4 {
        1 => (round % 7 * 200, 0),
        2 => (0, round % 7 * 200),
        _ => (0, 0),
    };
    let after = async |micros| {
        barrier.wait().await;
        if micros > 0 {
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
    };
    tokio::join!(
        async {
            after(first).await;
            one.await
        },
        async {
            after(second).await;
            other.await
        }
    )
}

fn statuses(answers: &[&Answer]) -> Vec<u16> {
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    statuses
}

async fn at_least(client: &Client, path: &str, version: &str) -> Answer {
    send(client.request(Method::GET, path).header("Permcast-At-Least", version)).await
}

#[tokio::test]
async fn a_refresh_never_outlives_the_end_of_its_session() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let mut refreshed = 0;
    for round in 0..48 {
        let tokens = on_a.login("ben").await;
        let sessions = root.get(&format!("{TENANT}/users/ben/sessions")).await.ok().body;
        let session = sessions["items"][0]["id"].as_str().unwrap().to_owned();
        let end = async {
            let answer = match round % 3 {
                0 => root.delete(&format!("{TENANT}/users/ben/sessions/{session}")).await,
                1 => send(on_a.with(&tokens).request(Method::POST, "/v1/logout")).await,
                _ => on_a.form("/oauth/revoke", &[("token", &tokens.refresh)]).await,
            };
            answer.ok()
        };
        let (ended, refresh) = together(round, end, on_b.try_refresh(&tokens.refresh)).await;
        // Nobody who asks from now on gets one.
        for client in [&on_a, &on_b] {
            let refused = client.try_refresh(&tokens.refresh).await;
            assert_eq!((refused.status.as_u16(), &refused.body["error"]), (400, &json!("invalid_grant")));
        }
        let head = match ended.body["change"]["version"].as_str() {
            Some(version) => version.to_owned(),
            None => root.put(&format!("{TENANT}/users/cleo/permissions/p{round}")).await.version(),
        };
        if refresh.status.is_success() {
            refreshed += 1;
            let fresh = refresh.tokens();
            // Where it was ended it is over at once, on the other as soon as that is applied.
            on_a.with(&fresh).get("/v1/me").await.ended();
            at_least(&on_b.with(&fresh), "/v1/me", &head).await.ended();
            assert!(seq(&fresh.pv) < seq(&head), "it rests on a session that was alive");
            assert_eq!(on_b.try_refresh(&fresh.refresh).await.status, 400);
        } else {
            assert_eq!((refresh.status.as_u16(), &refresh.body["error"]), (400, &json!("invalid_grant")));
        }
    }
    assert!((1..48).contains(&refreshed), "both orders were to be seen, and {refreshed} of 48 refreshes came first");
}

/// How one operator makes another lose his right.
async fn demote(by: &Client, whom: &str, round: u64) -> Answer {
    let user = format!("{TENANT}/users/{whom}");
    match round % 3 {
        0 => by.delete(&format!("{user}/permissions/permcast:operator")).await,
        1 => by.patch(&user, json!({"status": "suspended"})).await,
        _ => {
            let operations = json!({"operations": [
                {"op": "delete", "path": format!("users/{whom}/permissions/permcast:operator")},
                {"op": "patch", "path": format!("users/{whom}"), "body": {"name": "demoted"}},
            ]});
            by.post(&format!("{TENANT}/batch"), operations).await
        }
    }
}

#[tokio::test]
async fn two_operators_cannot_demote_each_other() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    root.post(&format!("{TENANT}/users"), json!({"id": "otto", "password": PASSWORD})).await.ok();
    let mut version = root.put(&format!("{TENANT}/users/otto/permissions/permcast:operator")).await.version();
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let mut winners = Vec::new();
    for round in 0..24 {
        let (a, b) = (on_a.with(&on_a.login(OPERATOR).await), on_b.with(&on_b.login("otto").await));
        at_least(&a, "/v1/me", &version).await.ok();
        at_least(&b, "/v1/me", &version).await.ok();
        let (by_root, by_otto) = together(round, demote(&a, "otto", round), demote(&b, OPERATOR, round)).await;
        let (winner, loser, won, lost) = match (by_root.status.is_success(), by_otto.status.is_success()) {
            (true, false) => (&on_a, "otto", &by_root, &by_otto),
            (false, true) => (&on_b, OPERATOR, &by_otto, &by_root),
            _ => panic!("round {round}: {by_root:?} {by_otto:?}"),
        };
        // His right or his session is gone, or he would have taken the last one's.
        assert!(matches!(lost.status.as_u16(), 401 | 403 | 409), "{lost:?}");
        let name = if loser == OPERATOR { "otto" } else { OPERATOR };
        winners.push(name);
        let left = cluster.sql(
            "SELECT count(*) FROM user_permissions p JOIN users u ON u.no = p.user \
             WHERE p.permission = 'permcast:operator' AND u.status = 'active'",
        );
        assert_eq!(left.trim(), "1");
        assert!(won.body["change"]["version"].is_string());
        let winner = winner.with(&winner.login(name).await);
        winner.patch(&format!("{TENANT}/users/{loser}"), json!({"status": "active"})).await.ok();
        let restored = winner.put(&format!("{TENANT}/users/{loser}/permissions/permcast:operator")).await.ok();
        version = restored.body["change"]["version"].as_str().map_or(version, str::to_owned);
        // The same once more, when there is nobody else.
        if round == 23 {
            winner.delete(&format!("{TENANT}/users/{loser}/permissions/permcast:operator")).await.ok();
            demote(&winner, name, round).await.problem(409, "conflict");
        }
    }
    assert!(winners.contains(&"otto") && winners.contains(&OPERATOR), "both orders were to be seen: {winners:?}");
}

#[tokio::test]
async fn roles_cannot_include_each_other_from_two_sides() {
    let cluster = Cluster::start().await;
    let (root, tokens) = company(&cluster).await;
    let on_b = cluster.b.client().with(&tokens);
    for round in 0..40 {
        let [one, two, between] = ["one", "two", "between"].map(|name| format!("{name}{round}"));
        let post = |name: &str, includes: &[&str]| json!({"op": "post", "path": "roles", "body": {"name": name, "includes": includes}});
        let put = |path: String| json!({"op": "put", "path": path});
        let mut operations = vec![post(&one, &[]), post(&two, &[]), post(&between, &[])];
        // By turns over a role in between.
        let middle = if round % 2 == 0 {
            &two
        } else {
            operations.push(put(format!("roles/{between}/includes/{two}")));
            &between
        };
        root.post(&format!("{TENANT}/batch"), json!({"operations": operations})).await.ok();
        let (there, back) = together(
            round,
            root.put(&format!("{TENANT}/roles/{one}/includes/{middle}")),
            on_b.put(&format!("{TENANT}/roles/{two}/includes/{one}")),
        )
        .await;
        assert_eq!(statuses(&[&there, &back]), [200, 409], "{there:?} {back:?}");
        let lost = if there.status == StatusCode::CONFLICT { there } else { back };
        lost.problem(409, "conflict");
    }
    let cycles = cluster.sql(
        "WITH RECURSIVE reach(top, role) AS (SELECT role, other FROM role_includes UNION \
         SELECT reach.top, i.other FROM reach JOIN role_includes i ON i.role = reach.role) \
         SELECT count(*) FROM reach WHERE top = role",
    );
    assert_eq!(cycles.trim(), "0");
}

#[tokio::test]
async fn who_is_demoted_while_his_write_waits_does_not_write() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let on_b = cluster.b.client();
    let max = on_b.with(&on_b.login("max").await);
    max.put(&format!("{TENANT}/users/ben/permissions/before")).await.version();
    let mut shell = Shell::holding(&cluster.database()).await;
    shell.run("DELETE FROM user_roles WHERE user = (SELECT no FROM users WHERE id = 'max');").await;
    // He is let in, for nobody knows yet, and waits behind the lock.
    let started = Instant::now();
    let commit = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        shell.run("COMMIT;").await;
        started.elapsed()
    };
    let path = format!("{TENANT}/users/ben/permissions/after");
    let writes = [max.put(&path), max.put(&path)];
    let write = async {
        let answers = join_all(writes).await;
        (started.elapsed(), answers)
    };
    let ((answered, answers), committed) = tokio::join!(write, commit);
    assert!(answered >= Duration::from_millis(300), "they were to wait: {answered:?}, committed after {committed:?}");
    for answer in answers {
        answer.problem(403, "forbidden");
    }
    assert_eq!(cluster.sql("SELECT count(*) FROM user_permissions WHERE permission = 'after'").trim(), "0");
    until("that the replica knows", async || {
        (max.put(&format!("{TENANT}/users/ben/permissions/after")).await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_in_the_log_is_by_one_who_was_demoted_before() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let (mut refused, mut done) = (0, 0);
    for round in 0..10 {
        root.put(&format!("{TENANT}/users/max/roles/admins")).await.ok();
        let max = on_b.with(&on_b.login("max").await);
        let shell = Shell::holding(&cluster.database()).await;
        let free = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            shell.kill().await;
        };
        let grant = format!("{TENANT}/users/max/roles/admins");
        let path = format!("{TENANT}/users/ben/permissions/r{round}");
        let ((demoted, written), ()) = tokio::join!(together(round, root.delete(&grant), max.put(&path)), free);
        let demoted = seq(&demoted.version());
        if written.status.is_success() {
            done += 1;
            assert!(seq(&written.version()) < demoted, "round {round}: {written:?}");
        } else {
            refused += 1;
            assert!(matches!(written.status.as_u16(), 401 | 403), "{written:?}");
        }
        let log = root.get(&format!("{TENANT}/changes?after={demoted}")).await.ok().body;
        let by = |row: &Value| row["actor"].as_str().unwrap().contains("max");
        assert!(!log["items"].as_array().unwrap().iter().any(by), "{log}");
    }
    assert_eq!(refused + done, 10);
}
