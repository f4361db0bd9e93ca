//! One change, on its way from one replica to the clients of the other.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::json;

use crate::client::{send, seq};
use crate::company::company;
use crate::harness::{Cluster, until};
use crate::socket::Socket;

#[tokio::test]
async fn a_change_on_one_replica_reaches_a_client_of_the_other() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    let (mut socket, welcome) = Socket::welcomed(&on_b, &tokens).await;
    assert_eq!(welcome["replica"], "b");
    assert!(welcome["heartbeat_ms"].as_u64().unwrap() > 0 && welcome["connection"].is_string());

    let version = root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    let told = socket.expect("permissions_changed").await;
    assert_eq!(told["pv"], version);
    assert_eq!((&told["reason"], &told["refresh_within_ms"]), (&json!("user"), &json!(0)));
    assert!(told["at"].is_string());

    // Whoever was told can never read the old answer.
    let ben = on_b.with(&tokens);
    assert_eq!(ben.get("/v1/me").await.stale(), version);
    let question = json!({"subject": {"type": "user", "id": "ben"}, "resource": {"type": "invoices"}, "action": {"name": "write"}});
    ben.post("/access/v1/evaluation", question.clone()).await.stale();

    let fresh = on_b.refresh(&tokens).await;
    assert!(seq(&fresh.pv) >= seq(&version));
    let ben = on_b.with(&fresh);
    let me = ben.get("/v1/me").await.ok().body;
    assert_eq!((&me["roles"], &me["permissions"]), (&json!([]), &json!([])));
    assert_eq!(ben.post("/access/v1/evaluation", question).await.ok().body["decision"], false);
    socket.say(json!({"type": "refresh", "token": fresh.access})).await;
    assert!(seq(socket.expect("refreshed").await["pv"].as_str().unwrap()) >= seq(&version));
}

#[tokio::test]
async fn a_burst_is_few_frames() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    let mut socket = Socket::hello(&on_b, &tokens).await;
    let operations: Vec<_> =
        (0..200).map(|n| json!({"op": "put", "path": format!("users/ben/permissions/p{n}")})).collect();
    let answer = root.post("/v1/tenants/default/batch", json!({"operations": operations})).await;
    let last = seq(&answer.version());
    let mut frames = 0;
    loop {
        frames += 1;
        let told = socket.expect("permissions_changed").await;
        if seq(told["pv"].as_str().unwrap()) == last {
            break;
        }
    }
    assert!(frames < 20, "{frames} frames for 200 changes");
}

#[tokio::test]
async fn who_was_away_is_told_at_welcome() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    drop(Socket::hello(&on_b, &tokens).await);
    let version = root.put("/v1/tenants/default/users/ben/permissions/reports:read").await.version();
    for client in [cluster.a.client(), on_b] {
        let mut socket = Socket::hello(&client, &tokens).await;
        let told = socket.expect("permissions_changed").await;
        assert_eq!(told["pv"], version);
        let fresh = client.refresh(&tokens).await;
        socket.say(json!({"type": "refresh", "token": fresh.access})).await;
        socket.expect("refreshed").await;
        let mut again = Socket::hello(&client, &fresh).await;
        again.say(json!({"type": "ping"})).await;
        assert_eq!(again.expect_heartbeat().await["pv"], version, "nothing to tell him any more");
    }
}

#[tokio::test]
async fn a_role_edit_reaches_exactly_its_members() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let (ben, cleo, zoe) = (on_b.login("ben").await, on_b.login("cleo").await, on_b.login_in("acme", "zoe").await);
    let mut sockets =
        [Socket::hello(&on_b, &ben).await, Socket::hello(&on_b, &cleo).await, Socket::hello(&on_b, &zoe).await];

    let edited = root.put("/v1/tenants/default/roles/editor/permissions/archive:read").await.version();
    let told = sockets[0].expect("permissions_changed").await;
    assert_eq!((&told["pv"], &told["reason"]), (&json!(edited), &json!("role")));
    on_b.with(&cleo).get("/v1/me").await.ok();

    // Both hold viewer, one of them by inclusion.
    let edited = root.put("/v1/tenants/default/roles/viewer/permissions/archive:list").await.version();
    for socket in &mut sockets[..2] {
        assert_eq!(socket.expect("permissions_changed").await["pv"], edited, "the first that cleo hears of");
    }
    assert_eq!(on_b.with(&cleo).get("/v1/me").await.stale(), edited);

    // The other tenant heard of none.
    let own = root.put("/v1/tenants/acme/users/zoe/permissions/x").await.version();
    assert_eq!(sockets[2].expect("permissions_changed").await["pv"], own);

    let fresh = on_b.refresh(&ben).await;
    let me = on_b.with(&fresh).get("/v1/me").await.ok().body;
    assert_eq!(me["permissions"], json!(["archive:list", "archive:read", "invoices:read", "invoices:write"]));
    assert_eq!(me["roles"], json!(["editor", "viewer"]));
}

#[tokio::test]
async fn a_deleted_role_is_gone_from_its_members() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    let mut socket = Socket::hello(&on_b, &tokens).await;
    let version = root.delete("/v1/tenants/default/roles/editor").await.version();
    assert_eq!(socket.expect("permissions_changed").await["pv"], version);
    let fresh = on_b.refresh(&tokens).await;
    assert_eq!(on_b.with(&fresh).get("/v1/me").await.ok().body["permissions"], json!([]));
    let made_anew = json!({"name": "editor", "permissions": ["invoices:write"]});
    root.post("/v1/tenants/default/roles", made_anew).await.ok();
    let fresh = on_b.refresh(&fresh).await;
    assert_eq!(on_b.with(&fresh).get("/v1/me").await.ok().body["permissions"], json!([]), "the new one has no members");
}

#[tokio::test]
async fn what_is_edited_with_a_shell_reaches_the_client() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    let mut socket = Socket::hello(&on_b, &tokens).await;
    cluster.sql("DELETE FROM user_roles WHERE user = (SELECT no FROM users WHERE id = 'ben')");
    let told = socket.expect("permissions_changed").await;
    assert_eq!(on_b.with(&tokens).get("/v1/me").await.stale(), told["pv"]);
    let after = seq(told["pv"].as_str().unwrap()) - 1;
    let log = root.get(&format!("/v1/tenants/default/changes?after={after}")).await.ok().body;
    let row = &log["items"][0];
    assert_eq!((&row["actor"], &row["kind"], &row["target"]), (&json!("sql"), &json!("user"), &json!("ben")));

    cluster.sql("UPDATE users SET status = 'suspended' WHERE id = 'ben'");
    assert_eq!(socket.expect("session_revoked").await["reason"], "suspended");
    socket.expect_close(4403).await;
    on_b.with(&tokens).get("/v1/me").await.ended();
}

#[tokio::test]
async fn what_is_so_already_is_no_change() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let log =
        async || root.get("/v1/tenants/default/changes?limit=1000").await.ok().body["items"].as_array().unwrap().len();
    let before = log().await;
    let answer = root.put("/v1/tenants/default/users/ben/roles/editor").await.ok();
    assert_eq!((answer.status.as_u16(), &answer.body["change"]), (200, &json!(null)));
    let answer = root.delete("/v1/tenants/default/users/cleo/roles/editor").await.ok();
    assert_eq!(answer.body["change"], json!(null));
    let answer = root.patch("/v1/tenants/default/users/ben", json!({"status": "active"})).await.ok();
    assert_eq!(answer.body["change"], json!(null));
    let answer = root.patch("/v1/tenants/default/roles/viewer", json!({"permissions": ["invoices:read"]})).await.ok();
    assert_eq!(answer.body["change"], json!(null));
    assert_eq!(log().await, before);
}

#[tokio::test]
async fn an_expiring_grant_is_taken_and_pushed() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let before = on_b.login("cleo").await;
    let mut socket = Socket::hello(&on_b, &before).await;
    let now: jiff::Timestamp = jiff::Timestamp::now();
    let expires_at = now + jiff::SignedDuration::from_millis(1500);
    let body = json!({"expires_at": expires_at.to_string()});
    let given = root.put_json("/v1/tenants/default/users/cleo/permissions/vault:open", body).await.version();
    assert_eq!(socket.expect("permissions_changed").await["pv"], given);

    let taken = socket.expect("permissions_changed").await;
    assert!(jiff::Timestamp::now() >= expires_at, "not before its time");
    assert!(seq(taken["pv"].as_str().unwrap()) > seq(&given));
    let fresh = on_b.refresh(&before).await;
    assert_eq!(on_b.with(&fresh).get("/v1/me").await.ok().body["permissions"], json!(["invoices:read"]));
    let log = root.get(&format!("/v1/tenants/default/changes?after={}", seq(&given))).await.ok().body;
    assert_eq!((&log["items"][0]["target"], &log["items"][0]["kind"]), (&json!("cleo"), &json!("user")));
}

#[tokio::test]
async fn a_suspended_user_is_out_everywhere() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    let mut socket = Socket::hello(&on_b, &tokens).await;
    root.patch("/v1/tenants/default/users/ben", json!({"status": "suspended"})).await.version();
    assert_eq!(socket.expect("session_revoked").await["reason"], "suspended");
    socket.expect_close(4403).await;
    on_b.with(&tokens).get("/v1/me").await.ended();
    let refused = on_b.try_refresh(&tokens.refresh).await;
    assert_eq!((refused.status.as_u16(), &refused.body["error"]), (400, &json!("invalid_grant")));
    assert_eq!(on_b.sign_in("default", "ben", crate::harness::PASSWORD).await.status, 401);
    Socket::open(&on_b).await.refused(&tokens.access, 4403).await;
}

#[tokio::test]
async fn signing_out_ends_the_session_everywhere() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let (tokens, other) = (on_b.login("ben").await, on_b.login("ben").await);
    let (mut socket, mut others) = (Socket::hello(&on_b, &tokens).await, Socket::hello(&on_b, &other).await);
    let out = send(on_a.with(&tokens).request(Method::POST, "/v1/logout")).await;
    assert_eq!(out.status, 204);
    assert_eq!(socket.expect("session_revoked").await["reason"], "signed_out");
    socket.expect_close(4403).await;
    on_b.with(&tokens).get("/v1/me").await.ended();
    on_b.with(&other).get("/v1/me").await.ok();
    others.say(json!({"type": "ping"})).await;
    others.expect_heartbeat().await;
}

#[tokio::test]
async fn a_change_can_be_awaited_on_every_replica() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    let mut socket = Socket::hello(&on_b, &tokens).await;
    let request = root.request(Method::DELETE, "/v1/tenants/default/users/ben/roles/editor");
    let answer = send(request.header("Prefer", "wait=10")).await;
    let version = answer.version();
    let report = &answer.body["propagation"];
    assert_eq!(report["complete"], true, "{report}");
    assert!(report["elapsed_ms"].as_f64().unwrap() < 10_000.0);
    let mut replicas: Vec<_> = report["replicas"].as_array().unwrap().iter().map(|r| r["id"].clone()).collect();
    replicas.sort_by_key(ToString::to_string);
    assert_eq!(replicas, ["a", "b"]);
    // It has been applied there, so it is so there.
    assert_eq!(on_b.with(&tokens).get("/v1/me").await.stale(), version);
    socket.expect("permissions_changed").await;

    let fresh = on_b.refresh(&tokens).await;
    socket.say(json!({"type": "refresh", "token": fresh.access})).await;
    socket.expect("refreshed").await;
    let path = format!("/v1/tenants/default/changes/{}/propagation", seq(&version));
    let connections = until("the receipt", async || {
        let connections = root.get(&path).await.ok().body["connections"].clone();
        (connections["refreshed"] == 1).then_some(connections)
    })
    .await;
    assert_eq!(connections, json!({"affected": 1, "notified": 1, "refreshed": 1}));
}

#[tokio::test]
async fn the_log_can_be_followed() {
    let cluster = Cluster::start().await;
    let (root, tokens) = company(&cluster).await;
    let head = root.put("/v1/tenants/default/users/ben/permissions/one").await.version();
    let path = format!("/v1/tenants/default/changes/stream?after={}", seq(&head));
    let mut response = cluster.b.client().with(&tokens).request(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let version = root.put("/v1/tenants/default/users/ben/permissions/two").await.version();
    let mut text = String::new();
    let event = async {
        while !text.contains("\n\n") || !text.contains("data:") {
            text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
        }
    };
    crate::harness::soon("an event", event).await;
    let data = text.lines().find_map(|line| line.strip_prefix("data:")).unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!((data["seq"].as_u64(), &data["target"]), (Some(seq(&version)), &json!("ben")));
}

#[tokio::test]
async fn a_version_can_be_demanded() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("vera").await;
    let vera = on_b.with(&tokens);
    let demand = |version: String| send(vera.request(Method::GET, "/v1/me").header("Permcast-At-Least", version));
    for n in 0..10 {
        let version = root.put(&format!("/v1/tenants/default/users/ben/permissions/p{n}")).await.version();
        let me = demand(version.clone()).await.ok();
        assert!(seq(me.body["pv"].as_str().unwrap()) >= seq(&version));
        let question = json!({"subject": {"type": "user", "id": "ben"}, "resource": {"type": format!("p{n}")}, "action": {"name": "x"}});
        let request = vera.request(Method::POST, "/access/v1/evaluation").json(&question);
        assert_eq!(send(request.header("Permcast-At-Least", &version)).await.ok().body["decision"], true);
    }
    let version = tokens.pv.clone();
    let (epoch, seq) = version.split_once('.').unwrap();
    demand(format!("{epoch}.{}", seq.parse::<u64>().unwrap() + 1000)).await.problem(412, "unreachable-version");
    demand(format!("zzzzzzzz.{seq}")).await.problem(412, "unreachable-version");
    demand("yesterday".to_owned()).await.problem(400, "malformed");
}

#[tokio::test]
async fn without_a_broker_a_change_arrives_by_polling() {
    let cluster = Cluster::without_broker().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    let mut socket = Socket::hello(&on_b, &tokens).await;
    let started = std::time::Instant::now();
    let version = root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    assert_eq!(socket.expect("permissions_changed").await["pv"], version);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}: within the bound", started.elapsed());
    let request = root.request(Method::PUT, "/v1/tenants/default/users/ben/permissions/x");
    let answer = send(request.header("Prefer", "wait=10")).await;
    assert_eq!(answer.body["propagation"]["complete"], true, "{answer:?}");
}

#[tokio::test]
async fn whoever_may_subscribe_reads_what_the_contract_says() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let nats = async_nats::connect(&cluster.nats.as_ref().unwrap().url).await.unwrap();
    let mut changes = nats.subscribe("permcast.v1.default.changes.default").await.unwrap();
    nats.flush().await.unwrap();
    let version = root.put("/v1/tenants/default/users/ben/permissions/one").await.version();
    let message = crate::harness::soon("a message", changes.next()).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((body["epoch"].as_str().unwrap(), &body["origin"]), (&version[..8], &json!("a")));
    let change = &body["changes"][0];
    assert_eq!(change["seq"].as_u64(), Some(seq(&version)));
    for (name, value) in
        [("tenant", "default"), ("kind", "user"), ("target", "ben"), ("user", "ben"), ("effect", "changed")]
    {
        assert_eq!(change[name], value, "{name}");
    }
    assert!(change["at"].as_str().unwrap().ends_with('Z'));
    let headers = message.headers.unwrap();
    let (key, tag) = headers.get("Permcast-Seal").unwrap().as_str().split_once('.').unwrap();
    assert!(!key.is_empty() && tag.len() == 43, "an HMAC-SHA-256 in base64url");
    let trace: Vec<_> = headers.get("traceparent").unwrap().as_str().split('-').map(str::len).collect();
    assert_eq!(trace, [2, 32, 16, 2]);
}
