//! Users who come from an identity provider: by exchange, and with its own tokens.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, Tokens, send};
use crate::company::company;
use crate::harness::Cluster;
use crate::provider::{AUDIENCE, Provider};
use crate::socket::{Next, Socket};

pub(crate) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

pub(crate) fn kind(word: &str) -> String {
    format!("urn:ietf:params:oauth:token-type:{word}")
}

/// Two replicas that trust the provider, and the company.
pub(crate) async fn trusting(provider: &Provider, more: &Value) -> (Cluster, Client) {
    let settings = json!([provider.settings(more)]).to_string();
    let cluster = Cluster::start_with(&[("PERMCAST_ISSUERS", &settings)]).await;
    let (root, _) = company(&cluster).await;
    (cluster, root)
}

/// Gives somebody an identity at the provider; tells the version.
pub(crate) async fn bind(root: &Client, provider: &Provider, tenant: &str, user: &str, subjects: &[&str]) -> String {
    let identity = |subject: &&str| json!({"issuer": provider.issuer, "subject": subject});
    let identities: Vec<Value> = subjects.iter().map(identity).collect();
    let patched = root.patch(&format!("/v1/tenants/{tenant}/users/{user}"), json!({"identities": identities})).await;
    patched.version()
}

pub(crate) async fn exchange(client: &Client, token: &str, as_a: &str) -> Answer {
    let kind = kind(as_a);
    client
        .form("/oauth/token", &[("grant_type", EXCHANGE), ("subject_token", token), ("subject_token_type", &kind)])
        .await
}

async fn me_at(client: &Client, token: &str, version: &str) -> Answer {
    let request = client.bearing(token).request(Method::GET, "/v1/me");
    send(request.header("Permcast-At-Least", version)).await
}

fn tokens(answer: &Answer) -> Tokens {
    let text = |name: &str| answer.body[name].as_str().unwrap().to_owned();
    Tokens { access: text("access_token"), refresh: text("refresh_token"), pv: text("pv") }
}

#[tokio::test]
async fn an_exchange_opens_a_session_like_any_other() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({})).await;
    bind(&root, &provider, "default", "ben", &["b-1"]).await;
    let on_b = cluster.b.client();
    let answer = exchange(&on_b, &provider.token("b-1"), "id_token").await.ok();
    assert_eq!(answer.body["issued_token_type"], kind("access_token"));
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.header("cache-control"), "no-store");
    let tokens = tokens(&answer);
    let me = on_b.with(&tokens).get("/v1/me").await.ok().body;
    assert_eq!((&me["user"], &me["roles"]), (&json!("ben"), &json!(["editor", "viewer"])));
    assert!(me["session"].is_string());
    let sessions = root.get("/v1/tenants/default/users/ben/sessions").await.ok().body;
    assert_eq!(sessions["items"][0]["id"], me["session"]);

    let version = root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    me_at(&on_b, &tokens.access, &version).await.stale();
    let again = on_b.refresh(&tokens).await;
    assert_eq!(on_b.with(&again).get("/v1/me").await.ok().body["permissions"], json!([]));
    for word in ["access_token", "jwt"] {
        exchange(&on_b, &provider.token("b-1"), word).await.ok();
    }
}

#[tokio::test]
async fn a_providers_own_token_is_a_thin_one() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({})).await;
    let version = bind(&root, &provider, "default", "ben", &["b-1"]).await;
    let on_b = cluster.b.client();
    let token = provider.token("b-1");
    let me = me_at(&on_b, &token, &version).await.ok().body;
    assert_eq!((&me["tenant"], &me["user"]), (&json!("default"), &json!("ben")));
    assert_eq!(me["permissions"], json!(["invoices:read", "invoices:write"]));
    assert!(me["session"].is_null());

    let version = root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    let me = me_at(&on_b, &token, &version).await.ok().body;
    assert_eq!(me["permissions"], json!([]), "no change makes it stale, and none is missed");
    let freshness = on_b.bearing(&token).get("/v1/me/freshness").await.ok();
    assert_eq!(freshness.body["stale"], false);

    let seen = on_b.bearing(&token).get("/v1/forward-auth?require=invoices:read").await;
    seen.problem(403, "forbidden");
    on_b.bearing(&token).post("/v1/logout", json!({})).await.ok();
    on_b.bearing(&token).get("/v1/me").await.ok();
}

#[tokio::test]
async fn with_its_user_it_ends_everywhere() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({})).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    for (user, end) in [("ben", "sign out"), ("cleo", "suspend"), ("vera", "delete")] {
        let version = bind(&root, &provider, "default", user, &[user]).await;
        let token = provider.token(user);
        me_at(&on_b, &token, &version).await.ok();
        let path = format!("/v1/tenants/default/users/{user}");
        let version = match end {
            "sign out" => root.delete(&format!("{path}/sessions")).await,
            "suspend" => root.patch(&path, json!({"status": "suspended"})).await,
            _ => root.delete(&path).await,
        };
        let version = version.version();
        for client in [&on_a, &on_b] {
            let answer = me_at(client, &token, &version).await;
            assert_eq!(answer.status, 401, "{end}: {answer:?}");
        }
        let refused = exchange(&on_a, &token, "id_token").await;
        assert_eq!((refused.status.as_u16(), &refused.body["error"]), (400, &json!("invalid_grant")), "{end}");
    }
}

#[tokio::test]
async fn an_identity_that_moves_takes_its_token_along() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({})).await;
    let (on_b, token) = (cluster.b.client(), provider.token("one"));
    on_b.bearing(&token).get("/v1/me").await.problem(401, "unauthenticated");
    let version = bind(&root, &provider, "default", "ben", &["one"]).await;
    assert_eq!(me_at(&on_b, &token, &version).await.ok().body["user"], "ben");
    let version = bind(&root, &provider, "default", "ben", &[]).await;
    me_at(&on_b, &token, &version).await.problem(401, "unauthenticated");
    let version = bind(&root, &provider, "default", "cleo", &["one"]).await;
    let me = me_at(&on_b, &token, &version).await.ok().body;
    assert_eq!((&me["user"], &me["permissions"]), (&json!("cleo"), &json!(["invoices:read"])));
    // By the shell, past everything.
    cluster.sql("UPDATE identities SET user = (SELECT no FROM users WHERE id = 'ben') WHERE subject = 'one'");
    crate::harness::until("the move", async || {
        let me = on_b.bearing(&token).get("/v1/me").await.ok().body;
        (me["user"] == "ben").then_some(())
    })
    .await;
}

#[tokio::test]
async fn its_bearer_may_do_what_his_user_may() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({})).await;
    bind(&root, &provider, "default", "max", &["m"]).await;
    let token = provider.token("m");
    let max = cluster.a.client().bearing(&token);
    let written = max.put("/v1/tenants/default/users/cleo/permissions/reports:read").await;
    let version = written.version();
    assert!(written.body["stale"].is_null(), "{written:?}");
    max.put("/v1/tenants/default/users/cleo/permissions/permcast:check").await.problem(403, "forbidden");
    max.get("/v1/tenants/acme/users").await.problem(404, "unknown-tenant");
    let log = root.get("/v1/tenants/default/changes?limit=1000").await.ok().body;
    let seq = crate::client::seq(&version);
    let row = log["items"].as_array().unwrap().iter().find(|row| row["seq"] == seq).unwrap();
    assert_eq!(row["actor"], "default/max");
    // His own standing changes, and his token goes on.
    max.put("/v1/tenants/default/users/max/permissions/reports:read").await.version();
    max.get("/v1/tenants/default/users").await.ok();
}

#[tokio::test]
async fn push_reaches_its_bearer() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({})).await;
    bind(&root, &provider, "default", "ben", &["b-1"]).await;
    let on_b = cluster.b.client();
    let token = provider.token("b-1");
    // At first sight: neither the identity nor the token were seen by this replica.
    let tokens = Tokens { access: token.clone(), refresh: String::new(), pv: String::new() };
    let mut socket = Socket::hello(&on_b, &tokens).await;
    let version = root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    let told = loop {
        let told = socket.expect("permissions_changed").await;
        if told["pv"] == version.as_str() {
            break told;
        }
    };
    assert_eq!(told["reason"], "user");
    assert_eq!(on_b.bearing(&token).get("/v1/me").await.ok().body["permissions"], json!([]));
    socket.say(json!({"type": "refresh", "token": token})).await;
    socket.expect("refreshed").await;
    root.delete("/v1/tenants/default/users/ben/sessions").await.version();
    assert_eq!(socket.expect("session_revoked").await["reason"], "signed_out");
    assert_eq!(socket.next().await, Next::Closed(4403));
    Socket::open(&on_b).await.refused(&token, 4403).await;
}

#[tokio::test]
async fn introspection_tells_of_it() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({})).await;
    bind(&root, &provider, "default", "ben", &["b-1"]).await;
    let vera = cluster.b.client().with(&cluster.b.client().login("vera").await);
    let told = vera.form("/oauth/introspect", &[("token", &provider.token("b-1"))]).await.ok().body;
    assert_eq!((&told["active"], &told["username"], &told["stale"]), (&json!(true), &json!("ben"), &json!(false)));
    assert_eq!((&told["iss"], &told["sub"]), (&json!(provider.issuer), &json!("b-1")));
    assert_eq!(told["roles"], json!(["editor", "viewer"]));
    let unknown = vera.form("/oauth/introspect", &[("token", &provider.token("nobody"))]).await.ok().body;
    assert_eq!(unknown, json!({"active": false}));
}

#[tokio::test]
async fn a_claim_may_name_the_tenant() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({"tenant_claim": "org"})).await;
    bind(&root, &provider, "default", "ben", &["one"]).await;
    bind(&root, &provider, "acme", "zoe", &["one"]).await;
    let client = cluster.a.client();
    for (org, user) in [("default", "ben"), ("acme", "zoe")] {
        let me = client.bearing(&provider.token_with("one", &json!({"org": org}))).get("/v1/me").await.ok().body;
        assert_eq!((&me["tenant"], &me["user"]), (&json!(org), &json!(user)));
    }
    for org in [Value::Null, json!("nowhere"), json!("ACME"), json!(["acme"]), json!("")] {
        let answer = client.bearing(&provider.token_with("one", &json!({"org": org}))).get("/v1/me").await;
        answer.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn who_is_vouched_for_is_made_a_user_of_his_own() {
    let provider = Provider::start().await;
    let settings = json!({"create_users": true, "default_role": "viewer"});
    let (cluster, root) = trusting(&provider, &settings).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let token = provider.token_with("dora", &json!({"name": "Dora", "email": "ben@example.org"}));
    let made = tokens(&exchange(&on_b, &token, "id_token").await.ok());
    let me = on_b.with(&made).get("/v1/me").await.ok().body;
    assert_eq!((&me["user"], &me["roles"]), (&json!("dora"), &json!(["viewer"])));
    let dora = root.get("/v1/tenants/default/users/dora").await.ok().body;
    assert_eq!((&dora["name"], &dora["has_password"]), (&json!("Dora"), &json!(false)));
    assert_eq!(dora["identities"], json!([{"issuer": provider.issuer, "subject": "dora"}]));

    // He who is called as somebody here is not that one.
    let me = on_a.bearing(&provider.token("root")).get("/v1/me").await.ok().body;
    let user = me["user"].as_str().unwrap();
    assert!(user.starts_with("idp_") && me["roles"] == json!(["viewer"]), "{me}");
    // All at once, on both: one user.
    let token = provider.token("emil");
    let all = (0..8).map(|n| exchange(if n % 2 == 0 { &on_a } else { &on_b }, &token, "id_token"));
    for answer in futures_util::future::join_all(all).await {
        answer.ok();
    }
    let users = root.get("/v1/tenants/default/users?limit=1000").await.ok().body;
    let emils = users["items"].as_array().unwrap().iter().filter(|user| user["identities"][0]["subject"] == "emil");
    assert_eq!(emils.count(), 1);
    let log = root.get("/v1/tenants/default/changes?limit=1000").await.ok().body;
    assert!(log["items"].as_array().unwrap().iter().any(|row| row["actor"] == "provisioning"));
}

#[tokio::test]
async fn nobody_is_made_who_would_hold_what_is_reserved() {
    let provider = Provider::start().await;
    let settings = json!({"create_users": true, "default_role": "fresh"});
    let (cluster, root) = trusting(&provider, &settings).await;
    let client = cluster.a.client();
    let refused = async |subject: &str| {
        let answer = exchange(&client, &provider.token(subject), "id_token").await;
        assert_eq!((answer.status.as_u16(), &answer.body["error"]), (400, &json!("invalid_grant")), "{answer:?}");
        root.get(&format!("/v1/tenants/default/users/{subject}")).await.problem(404, "unknown-user");
    };
    refused("early").await;
    root.post("/v1/tenants/default/roles", json!({"name": "fresh", "includes": ["checkers"]})).await.version();
    refused("climbing").await;
    root.delete("/v1/tenants/default/roles/fresh/includes/checkers").await.version();
    exchange(&client, &provider.token("late"), "id_token").await.ok();
}

#[tokio::test]
async fn each_algorithm_is_believed_by_its_own_key_alone() {
    for algorithm in ["ES256", "ES384", "RS256"] {
        let provider = Provider::start_for(algorithm).await;
        let (cluster, root) = trusting(&provider, &json!({})).await;
        let version = bind(&root, &provider, "default", "ben", &["b-1"]).await;
        me_at(&cluster.a.client(), &provider.token("b-1"), &version).await.ok();
        if algorithm == "RS256" {
            let mut header = crate::provider::header(&provider.key);
            header["alg"] = json!("PS256");
            let token = provider.key.token(&header, &provider.claims("b-1").to_string());
            me_at(&cluster.a.client(), &token, &version).await.ok();
            header["alg"] = json!("EdDSA");
            let token = provider.key.token(&header, &provider.claims("b-1").to_string());
            me_at(&cluster.a.client(), &token, &version).await.problem(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn an_exchange_is_asked_for_as_rfc_8693_says() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({})).await;
    bind(&root, &provider, "default", "ben", &["b-1"]).await;
    let client = cluster.a.client();
    let (token, jwt) = (provider.token("b-1"), kind("jwt"));
    let good = [("grant_type", EXCHANGE), ("subject_token", token.as_str()), ("subject_token_type", jwt.as_str())];
    let (access, refresh) = (kind("access_token"), kind("refresh_token"));
    for (more, error) in [
        (("audience", "https://elsewhere.test"), "invalid_target"),
        (("resource", AUDIENCE), "invalid_target"),
        (("requested_token_type", refresh.as_str()), "invalid_request"),
        (("actor_token", token.as_str()), "invalid_request"),
        (("subject_token", token.as_str()), "invalid_request"),
        (("cookie", "true"), "invalid_request"),
    ] {
        let answer = client.form("/oauth/token", &[&good[..], &[more]].concat()).await;
        assert_eq!(answer.body["error"], error, "{more:?}: {answer:?}");
    }
    for missing in ["subject_token", "subject_token_type"] {
        let fields: Vec<_> = good.iter().copied().filter(|(name, _)| *name != missing).collect();
        let answer = client.form("/oauth/token", &fields).await;
        assert_eq!((answer.status.as_u16(), &answer.body["error"]), (400, &json!("invalid_request")), "{missing}");
    }
    for more in [("audience", crate::harness::ISSUER), ("requested_token_type", access.as_str())] {
        client.form("/oauth/token", &[&good[..], &[more]].concat()).await.ok();
    }
    let metadata = client.get("/.well-known/oauth-authorization-server").await.ok().body;
    assert!(metadata["grant_types_supported"].as_array().unwrap().contains(&json!(EXCHANGE)));
}
