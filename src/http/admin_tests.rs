use actix_web::http::Method;
use serde_json::json;

use super::house::House;

const T: &str = "/v1/tenants/default";

#[actix_web::test]
async fn what_is_made_is_201_and_shown_with_its_change() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    let body = json!({
        "id": "auth0|5f", "name": "Eve", "email": "Eve@Example.com", "password": "secret",
        "identities": [{"issuer": "https://idp.example", "subject": "5f"}],
    });
    let made = ada.post(&format!("{T}/users"), body).await.is(201);
    assert_eq!(made.body["id"], "auth0|5f");
    assert_eq!(made.body["email"], "eve@example.com");
    assert_eq!(made.body["has_password"], true);
    assert!(!made.body.to_string().contains("secret"));
    assert_eq!(made.header("location"), "/v1/tenants/default/users/auth0%7C5f");
    assert_eq!(made.header("permcast-version"), made.body["change"]["version"].as_str().unwrap());
    let seq = made.body["change"]["seq"].as_u64().unwrap();
    assert!(made.body["change"]["version"].as_str().unwrap().ends_with(&format!(".{seq}")));
    assert_eq!(ada.get(made.header("location")).await.is(200).body["name"], "Eve");

    let same = ada.patch(made.header("location"), json!({"name": "Eve"})).await.is(200);
    assert!(same.body["change"].is_null(), "{same:?}");
    ada.delete(made.header("location")).await.is(200);
    ada.get(made.header("location")).await.problem(404, "unknown-user");
}

#[actix_web::test]
async fn roles_and_grants_are_read_back_as_written() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    let body = json!({"name": "editor", "permissions": ["invoices:edit", "invoices:edit"], "includes": ["viewer"]});
    let role = ada.post(&format!("{T}/roles"), body).await.is(201);
    assert_eq!(role.body["permissions"], json!(["invoices:edit"]));
    ada.put(&format!("{T}/roles/editor/permissions/invoices:create:%2A")).await.is(200);
    let granted = ada
        .send(Method::PUT, &format!("{T}/users/ben/roles/editor"), json!({"expires_at": "2099-01-01T01:00:00+01:00"}))
        .await
        .is(200);
    assert_eq!(granted.body["user"], "ben");
    assert_eq!(granted.body["role"], "editor");
    assert_eq!(granted.body["expires_at"], "2099-01-01T00:00:00.000Z");
    ada.put(&format!("{T}/users/ben/permissions/reports:read")).await.is(200);

    let may = ada.get(&format!("{T}/users/ben/permissions")).await.is(200).body;
    assert_eq!(may["roles"], json!(["editor", "viewer"]));
    assert_eq!(may["permissions"], json!(["invoices:create:*", "invoices:edit", "invoices:read", "reports:read"]));
    assert_eq!(may["grants"].as_array().unwrap().len(), 3);

    ada.delete(&format!("{T}/users/ben/roles/nobody")).await.problem(404, "unknown-role");
    let gone = ada.delete(&format!("{T}/users/ben/permissions/reports:read")).await.is(200);
    assert!(gone.body["change"].is_object());
    let again = ada.delete(&format!("{T}/users/ben/permissions/reports:read")).await.is(200);
    assert!(again.body["change"].is_null());
    ada.put(&format!("{T}/roles/viewer/includes/editor")).await.problem(409, "conflict");
}

#[actix_web::test]
async fn lists_come_in_pages() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    let (mut seen, mut path) = (Vec::new(), format!("{T}/users?limit=3"));
    loop {
        let page = ada.get(&path).await.is(200).body;
        seen.extend(page["items"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{T}/users?limit=3&cursor={cursor}");
    }
    assert_eq!(seen, ["ada", "ben", "kim", "root"]);
    ada.get(&format!("{T}/users?limit=0")).await.problem(422, "invalid");
    ada.get(&format!("{T}/users?cursor=%20")).await.problem(422, "invalid");
}

#[actix_web::test]
async fn anothers_tenant_is_like_one_that_is_not_there() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    let ben = house.client("ben").await;
    for path in ["", "/users", "/users/zoe", "/users/zoe/permissions", "/users/zoe/sessions", "/roles/x", "/changes"] {
        let there = ada.get(&format!("/v1/tenants/acme{path}")).await;
        let nowhere = ada.get(&format!("/v1/tenants/nowhere{path}")).await;
        let never = ada.get(&format!("/v1/tenants/NEVER{path}")).await;
        there.problem(404, "unknown-tenant");
        assert_eq!(there.body, nowhere.body, "{path}");
        assert_eq!(there.body, never.body, "{path}");
    }
    // A body is not looked at before it is known that he may.
    let bad = json!({"no": 1});
    ada.post("/v1/tenants/acme/users", bad.clone()).await.problem(404, "unknown-tenant");
    ada.patch("/v1/tenants/acme", bad.clone()).await.problem(404, "unknown-tenant");
    ben.post(&format!("{T}/users"), bad.clone()).await.problem(403, "forbidden");
    ben.get(&format!("{T}/users/ben")).await.problem(403, "forbidden");
    ada.post("/v1/tenants", bad).await.problem(403, "forbidden");
    ada.get("/v1/tenants").await.problem(403, "forbidden");
    ada.get("/v1/tenants/default").await.problem(403, "forbidden");
}

#[actix_web::test]
async fn operators_manage_tenants() {
    let house = House::new().await;
    let root = house.client("root").await;
    let made = root.post("/v1/tenants", json!({"name": "beta", "description": "B"})).await.is(201);
    assert_eq!(made.body["status"], "active");
    assert_eq!(made.header("location"), "/v1/tenants/beta");
    root.post("/v1/tenants", json!({"name": "beta"})).await.problem(409, "exists");
    assert_eq!(
        root.patch("/v1/tenants/beta", json!({"status": "suspended"})).await.is(200).body["status"],
        "suspended"
    );
    let names: Vec<_> = root.get("/v1/tenants").await.is(200).body["items"].as_array().unwrap().clone();
    assert_eq!(names.len(), 3);
    root.get("/v1/tenants/acme/users/zoe").await.is(200);
    root.get("/v1/tenants/nowhere/users").await.problem(404, "unknown-tenant");
    root.delete("/v1/tenants/beta").await.is(200);
    root.get("/v1/tenants/beta").await.problem(404, "unknown-tenant");
    root.delete("/v1/tenants/default").await.problem(409, "conflict");
}

#[actix_web::test]
async fn nobody_gives_what_he_does_not_hold() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    ada.put(&format!("{T}/users/ben/permissions/permcast:operator")).await.problem(403, "forbidden");
    ada.patch(&format!("{T}/users/root"), json!({"password": "mine"})).await.problem(403, "forbidden");
    ada.delete(&format!("{T}/users/root")).await.problem(403, "forbidden");
    let root = house.client("root").await;
    root.delete(&format!("{T}/users/root/permissions/permcast:operator")).await.problem(409, "conflict");
}

#[actix_web::test]
async fn who_makes_his_own_token_stale_is_told() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    let change = ada.put(&format!("{T}/users/ada/roles/viewer")).await.is(200);
    assert_eq!(change.body["stale"], true);
    let refused = ada.get(&format!("{T}/users")).await;
    refused.problem(401, "stale-token");
    let pv = change.body["change"]["version"].as_str().unwrap();
    assert_eq!(
        refused.header("www-authenticate"),
        format!(r#"Bearer error="invalid_token", error_description="permissions changed", pv="{pv}""#)
    );
    let ada = house.client("ada").await;
    let other = ada.put(&format!("{T}/users/ben/permissions/a")).await.is(200);
    assert_eq!(other.body.get("stale"), None);
}

#[actix_web::test]
async fn a_batch_is_done_as_one_though_its_author_edits_his_own_role() {
    let house = House::new().await;
    let root = house.client("root").await;
    root.post(&format!("{T}/roles"), json!({"name": "boss", "permissions": ["permcast:admin"]})).await.is(201);
    root.put(&format!("{T}/users/ben/roles/boss")).await.is(200);
    let ben = house.client("ben").await;
    let batch = json!({"operations": [
        {"op": "patch", "path": "roles/boss", "body": {"description": "less"}},
        {"op": "put", "path": "users/kim/roles/viewer"},
        {"op": "put", "path": "users/kim/roles/viewer", "body": null},
        {"op": "post", "path": "users", "body": {"id": "new", "password": "x"}},
        {"op": "delete", "path": "users/ben/roles/boss"},
    ]});
    let done = ben.post(&format!("{T}/batch"), batch).await.is(200);
    assert_eq!(done.body["stale"], true);
    let results = done.body["results"].as_array().unwrap();
    assert_eq!(results.len(), 5);
    assert_eq!(results[1]["user"], "kim");
    assert!(results[2]["change"].is_null(), "it was so already");
    assert_eq!(results[4]["change"], done.body["change"]);
    house.sign_in("ben").await;
}

#[actix_web::test]
async fn a_batch_that_fails_does_nothing_and_names_the_operation() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    let before = house.services.feed.applied();
    let batch =
        |last: serde_json::Value| json!({"operations": [{"op": "put", "path": "users/kim/roles/viewer"}, last]});
    for (last, status, slug, pointer) in [
        (json!({"op": "put", "path": "users/nobody/roles/viewer"}), 404, "unknown-user", "/operations/1"),
        (json!({"op": "put", "path": "users/a%2Fb/roles/viewer"}), 404, "unknown-user", "/operations/1"),
        (json!({"op": "post", "path": "roles", "body": {"name": "viewer"}}), 409, "exists", "/operations/1"),
        (json!({"op": "post", "path": "roles", "body": {"name": "V"}}), 422, "invalid", "/operations/1/body/name"),
        (json!({"op": "put", "path": "users/ben/permissions/permcast:check"}), 403, "forbidden", "/operations/1"),
        (json!({"op": "put", "path": "../acme/users/zoe/roles/x"}), 422, "invalid", "/operations/1/path"),
    ] {
        let answer = ada.post(&format!("{T}/batch"), batch(last)).await;
        answer.problem(status, slug);
        assert_eq!(answer.body["index"], 1, "{answer:?}");
        assert_eq!(answer.pointers(), [pointer]);
    }
    assert_eq!(house.services.feed.applied(), before);
}

#[actix_web::test]
async fn a_change_waits_for_the_replicas_where_that_is_preferred() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    let request = ada.request(Method::PUT, &format!("{T}/users/ben/permissions/a")).insert_header(("Prefer", "wait=5"));
    let answer = house.ask(request).await.is(200);
    assert_eq!(answer.header("preference-applied"), "wait=5");
    let report = &answer.body["propagation"];
    assert_eq!(report["complete"], true, "{report}");
    assert!(report["elapsed_ms"].is_number());
    assert_eq!(report["replicas"][0]["id"], "r1");
    assert!(report["connections"]["affected"].is_u64());
    let seq = answer.body["change"]["seq"].as_u64().unwrap();
    assert_eq!(ada.get(&format!("{T}/changes/{seq}/propagation")).await.is(200).body["complete"], true);
    for bad in ["0", "x", "999999", "-1"] {
        ada.get(&format!("{T}/changes/{bad}/propagation")).await.problem(404, "not-found");
    }
}

#[actix_web::test]
async fn the_log_names_who_did_what() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    let change = ada.put(&format!("{T}/users/ben/permissions/a")).await.is(200);
    let seq = change.body["change"]["seq"].as_u64().unwrap();
    let log = ada.get(&format!("{T}/changes?after={}", seq - 1)).await.is(200).body;
    let row = &log["items"][0];
    assert_eq!((row["seq"].as_u64(), row["actor"].as_str()), (Some(seq), Some("default/ada")));
    assert_eq!((row["kind"].as_str(), row["target"].as_str()), (Some("user"), Some("ben")));
    assert!(row["at"].is_string() && row["summary"].is_string());
    assert!(log["next_cursor"].is_null());
    let first = ada.get(&format!("{T}/changes?limit=2")).await.is(200).body;
    let cursor = first["next_cursor"].as_str().unwrap();
    let next = ada.get(&format!("{T}/changes?limit=2&after={cursor}")).await.is(200).body;
    assert!(next["items"][0]["seq"].as_u64() > first["items"][1]["seq"].as_u64());
    assert!(!ada.get(&format!("{T}/changes?limit=1000")).await.body.to_string().contains("acme"));
    ada.get(&format!("{T}/changes?after=x")).await.problem(422, "invalid");
}

#[actix_web::test]
async fn a_demanded_version_is_reached_or_refused() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    let ask = |version: &str| {
        house.ask(ada.request(Method::GET, "/v1/me").insert_header(("Permcast-At-Least", version.to_owned())))
    };
    let applied = house.services.feed.applied();
    ask(&applied.to_string()).await.is(200);
    ask("zzzzzzzz.1").await.problem(412, "unreachable-version");
    ask(&format!("{}.{}", applied.epoch, applied.seq.get() + 100)).await.problem(412, "unreachable-version");
    ask("soon").await.problem(400, "malformed");
}

#[actix_web::test]
async fn sessions_are_listed_and_ended() {
    let house = House::new().await;
    let (ada, ben) = (house.client("ada").await, house.client("ben").await);
    let sessions = ada.get(&format!("{T}/users/ben/sessions")).await.is(200).body;
    let session = &sessions["items"][0];
    assert_eq!((session["address"].as_str(), session["connected"].as_bool()), (Some("192.0.2.1"), Some(false)));
    let id = session["id"].as_str().unwrap();
    assert_eq!(ben.get("/v1/me").await.is(200).body["session"], id);
    ada.delete(&format!("{T}/users/ben/sessions/{id}")).await.is(200);
    let over = ben.get("/v1/me").await;
    over.problem(401, "session-ended");
    assert_eq!(over.header("www-authenticate"), r#"Bearer error="invalid_token", error_description="session ended""#);
    ada.delete(&format!("{T}/users/ben/sessions/x")).await.problem(404, "unknown-session");
    ada.get(&format!("{T}/users/nobody/sessions")).await.problem(404, "unknown-user");
    let own = ada.delete(&format!("{T}/users/ada/sessions")).await.is(200);
    assert_eq!(own.body["stale"], true);
}

#[actix_web::test]
async fn a_lockdown_lets_operators_alone_pass() {
    let house = House::new().await;
    let (root, ada) = (house.client("root").await, house.client("ada").await);
    ada.get("/v1/lockdown").await.problem(403, "forbidden");
    assert_eq!(root.get("/v1/lockdown").await.is(200).body, json!({"enabled": false}));
    for (bad, pointer) in [
        (json!({}), "/enabled"),
        (json!({"enabled": true, "retry_after_s": 0}), "/retry_after_s"),
        (json!({"enabled": true, "tenant": "A"}), "/tenant"),
    ] {
        let answer = root.send(Method::PUT, "/v1/lockdown", bad).await;
        assert_eq!(answer.problem(422, "invalid").pointers(), [pointer]);
    }
    let on = root.send(Method::PUT, "/v1/lockdown", json!({"enabled": true, "retry_after_s": 7})).await.is(200);
    assert_eq!((on.body["enabled"].as_bool(), on.body["retry_after_s"].as_u64()), (Some(true), Some(7)));
    let locked = ada.get("/v1/me").await;
    locked.problem(503, "locked");
    assert_eq!(locked.header("retry-after"), "7");
    root.send(Method::PUT, "/v1/lockdown", json!({"enabled": false})).await.is(200);
    ada.get("/v1/me").await.is(200);
}

#[actix_web::test]
async fn revoked_keys_make_every_token_void() {
    let house = House::new().await;
    let (root, ada) = (house.client("root").await, house.client("ada").await);
    ada.post("/v1/keys/rotate", json!({})).await.problem(403, "forbidden");
    root.post("/v1/keys/rotate", json!({"sessions": true})).await.problem(422, "invalid");
    root.post("/v1/keys/rotate", json!({"revoke": "yes"})).await.problem(422, "invalid");
    let gentle = root.post("/v1/keys/rotate", json!({})).await.is(200);
    assert!(gentle.body["change"].is_object());
    ada.get("/v1/me").await.is(200);
    let revoked = root.post("/v1/keys/rotate", json!({"revoke": true})).await.is(200);
    assert_eq!(revoked.body["stale"], true);
    assert_eq!(ada.get("/v1/me").await.status, 401);
}

#[actix_web::test]
async fn replicas_are_for_operators() {
    let house = House::new().await;
    house.client("ada").await.get("/v1/replicas").await.problem(403, "forbidden");
    house.client("root").await.get("/v1/replicas").await.is(200);
}
