//! A change on one replica reaches the clients of the other.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Deployment, seq};

#[tokio::test]
async fn a_change_on_one_replica_reaches_a_client_of_the_other() {
    let d = Deployment::start(2, true).await;
    d.make_user("ben").await;
    d.make_role("editor", &["invoices:edit"]).await;
    d.grant("ben", "editor").await.ok();
    let (token, refresh) = d.login(1, "ben").await;
    let mut socket = d.welcomed(1, &token).await;

    let wait = [("Prefer", "wait=10")];
    let path = "/v1/tenants/default/users/ben/roles/editor";
    let done = d.call_with(0, Method::DELETE, path, &d.ada, None, &wait).await;
    assert_eq!(done.body["propagation"]["complete"], true, "{done:?}");
    assert_eq!(done.body["propagation"]["replicas"].as_array().unwrap().len(), 2);
    let told = socket.next("permissions_changed").await;
    assert_eq!((told["pv"].as_str().unwrap(), told["reason"].as_str().unwrap()), (&*done.version(), "user"));
    assert_eq!(told["refresh_within_ms"], 0);

    let refused = d.call(1, Method::GET, "/v1/me", &token, None).await;
    assert_eq!(refused.status, 401);
    let challenge = refused.headers["www-authenticate"].to_str().unwrap();
    let needed = done.version();
    assert_eq!(
        challenge,
        format!(r#"Bearer error="invalid_token", error_description="permissions changed", pv="{needed}""#)
    );
    let (fresh, _) = d.refresh(1, &refresh).await;
    let me = d.call(1, Method::GET, "/v1/me", &fresh, None).await.ok();
    assert_eq!(me["permissions"], json!([]));
    assert!(seq(&me["pv"]) >= seq(&json!(needed)));
    assert!(seq(&socket.refreshed(&fresh).await["pv"]) >= seq(&json!(needed)));
}

#[tokio::test]
async fn a_burst_is_one_frame_with_the_last_version() {
    let d = Deployment::start(2, true).await;
    d.make_user("ben").await;
    let (token, _) = d.login(1, "ben").await;
    let mut socket = d.welcomed(1, &token).await;
    let operations: Vec<_> =
        (0..50).map(|n| json!({ "op": "put", "path": format!("users/ben/permissions/invoices:p{n}") })).collect();
    let done = d.administer(0, Method::POST, "batch", Some(json!({ "operations": operations }))).await;
    let told = socket.next("permissions_changed").await;
    assert_eq!(told["pv"].as_str().unwrap(), done.version());
    socket.is_quiet().await;
}

#[tokio::test]
async fn a_client_that_was_away_is_told_at_welcome() {
    let d = Deployment::start(2, true).await;
    d.make_user("ben").await;
    d.make_role("editor", &["invoices:edit"]).await;
    let (token, _) = d.login(1, "ben").await;
    let changed = d.grant("ben", "editor").await.version();
    let reached = d
        .call_with(1, Method::GET, "/v1/me", &d.login(0, "ben").await.0, None, &[("Permcast-At-Least", &changed)])
        .await;
    reached.ok();
    let mut socket = d.welcomed(1, &token).await;
    assert_eq!(socket.next("permissions_changed").await["pv"].as_str().unwrap(), changed);
}

#[tokio::test]
async fn a_role_edit_reaches_exactly_its_members() {
    let d = Deployment::start(2, true).await;
    d.make_role("viewer", &["invoices:read"]).await;
    let including = json!({ "name": "editor", "includes": ["viewer"], "permissions": ["invoices:edit"] });
    d.administer(0, Method::POST, "roles", Some(including)).await.ok();
    d.make_role("other", &["reports:read"]).await;
    for (user, role) in [("ben", "editor"), ("cleo", "viewer"), ("dora", "other")] {
        d.make_user(user).await;
        d.grant(user, role).await.ok();
    }
    let mut sockets = Vec::new();
    for user in ["ben", "cleo", "dora"] {
        let (token, _) = d.login(1, user).await;
        sockets.push(d.welcomed(1, &token).await);
    }
    let done = d.administer(0, Method::PUT, "roles/viewer/permissions/invoices:print", None).await;
    for member in &mut sockets[..2] {
        let told = member.next("permissions_changed").await;
        assert_eq!((told["pv"].as_str().unwrap(), told["reason"].as_str().unwrap()), (&*done.version(), "role"));
    }
    let (ada, _) = d.login(1, "ada").await;
    let heard = [("Permcast-At-Least", &*done.version())].map(|(name, value)| (name, value.to_owned()));
    let headers: Vec<_> = heard.iter().map(|(name, value)| (*name, value.as_str())).collect();
    d.call_with(1, Method::GET, "/v1/me", &ada, None, &headers).await.ok();
    sockets[2].is_quiet().await;
}

#[tokio::test]
async fn a_row_edited_with_the_sql_shell_reaches_the_client() {
    for with_broker in [true, false] {
        let d = Deployment::start(2, with_broker).await;
        d.make_user("ben").await;
        d.make_role("editor", &["invoices:edit"]).await;
        d.grant("ben", "editor").await.ok();
        for replica in [0, 1] {
            let (token, _) = d.login(replica, "ben").await;
            let mut socket = d.welcomed(replica, &token).await;
            let before = d.head();
            d.sql(if replica == 0 {
                "DELETE FROM user_roles"
            } else {
                "UPDATE users SET status='suspended' WHERE id='ben'"
            });
            assert_eq!(d.head(), before + 1);
            if replica == 0 {
                assert_eq!(seq(&socket.next("permissions_changed").await["pv"]), before + 1);
            } else {
                assert_eq!(socket.next("session_revoked").await["reason"], "suspended");
                assert_eq!(socket.close_code().await, 4403);
                let refused = d.call(replica, Method::GET, "/v1/me", &token, None).await;
                assert!(refused.headers["www-authenticate"].to_str().unwrap().contains("session ended"), "{refused:?}");
            }
            assert_eq!(d.sql("SELECT actor FROM changes ORDER BY seq DESC LIMIT 1"), "sql");
        }
    }
}

#[tokio::test]
async fn what_is_already_so_writes_nothing() {
    let d = Deployment::start(1, false).await;
    d.make_user("ben").await;
    d.make_role("editor", &["invoices:edit"]).await;
    d.grant("ben", "editor").await.ok();
    let before = d.head();
    for (method, path) in [
        (Method::PUT, "users/ben/roles/editor"),
        (Method::DELETE, "users/ben/permissions/invoices:read"),
        (Method::PUT, "roles/editor/permissions/invoices:edit"),
        (Method::DELETE, "roles/editor/permissions/invoices:read"),
    ] {
        let done = d.administer(0, method, path, None).await;
        assert_eq!((done.status.as_u16(), &done.body["change"]), (200, &json!(null)), "{path}");
    }
    let same = d.administer(0, Method::PATCH, "roles/editor", Some(json!({ "permissions": ["invoices:edit"] }))).await;
    assert_eq!((same.status.as_u16(), &same.body["change"]), (200, &json!(null)));
    assert_eq!(d.head(), before);
}

#[tokio::test]
async fn a_batch_is_done_whole_or_not_at_all() {
    let d = Deployment::start(1, false).await;
    d.make_user("ben").await;
    d.make_role("editor", &["invoices:edit"]).await;
    let before = d.head();
    let operations = json!([
        { "op": "put", "path": "users/ben/roles/editor" },
        { "op": "post", "path": "roles", "body": { "name": "extra" } },
        { "op": "put", "path": "users/nobody/roles/editor" },
    ]);
    let failed = d.administer(0, Method::POST, "batch", Some(json!({ "operations": operations }))).await;
    assert_eq!(failed.status, 404, "{failed:?}");
    assert!(failed.body.to_string().contains("/operations/2"), "{failed:?}");
    assert_eq!(d.head(), before);
    assert_eq!(d.administer(0, Method::GET, "roles/extra", None).await.status, 404);
}

#[tokio::test]
async fn an_expiring_grant_is_deleted_and_its_end_is_pushed() {
    let d = Deployment::start(2, true).await;
    d.make_user("ben").await;
    d.make_role("editor", &["invoices:edit"]).await;
    let soon = jiff::Timestamp::now() + std::time::Duration::from_millis(7500);
    let grant = json!({ "expires_at": soon.to_string() });
    d.administer(0, Method::PUT, "users/ben/roles/editor", Some(grant)).await.ok();
    let (token, _) = d.login(1, "ben").await;
    d.call(1, Method::GET, "/v1/me", &token, None).await.ok();
    let mut socket = d.welcomed(1, &token).await;
    let told = socket.next("permissions_changed").await;
    assert!(jiff::Timestamp::now() >= soon, "not before its time");
    assert_eq!(told["reason"], "user");
    assert_eq!(d.sql("SELECT count(*) FROM user_roles"), "0");
}

#[tokio::test]
async fn a_barrier_without_a_broker_reaches_both_replicas() {
    let d = Deployment::start(2, false).await;
    d.make_user("ben").await;
    let path = "/v1/tenants/default/users/ben/permissions/invoices:read";
    let done = d.call_with(0, Method::PUT, path, &d.ada, None, &[("Prefer", "wait=10")]).await.ok();
    assert_eq!(done["propagation"]["complete"], true, "{done}");
    assert_eq!(done["propagation"]["replicas"].as_array().unwrap().len(), 2, "{done}");
}
