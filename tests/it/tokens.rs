//! Signing in, refreshing, and what a token says.

use base64::Engine as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{send, seq};
use crate::company::company;
use crate::harness::{Cluster, ISSUER, PASSWORD};

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_says_what_the_contract_says() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let tokens = cluster.b.client().login("ben").await;
    let (header, claims) = (part(&tokens.access, 0), part(&tokens.access, 1));
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("EdDSA")));
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!(ISSUER)));
    assert_eq!((&claims["sub"], &claims["tenant"]), (&json!("default/ben"), &json!("default")));
    assert_eq!(claims["roles"], json!(["editor", "viewer"]));
    assert_eq!(claims["permissions"], json!(["invoices:read", "invoices:write"]));
    assert_eq!(claims["pv"], tokens.pv);
    for name in ["iat", "exp", "jti", "client_id", "sid"] {
        assert!(!claims[name].is_null(), "{name}: {claims}");
    }
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);

    let expires_at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(120);
    let body = json!({"expires_at": expires_at.to_string()});
    root.put_json("/v1/tenants/default/users/ben/permissions/vault:open", body).await.ok();
    let claims = part(&cluster.a.client().login("ben").await.access, 1);
    assert!(claims["exp"].as_i64().unwrap() <= expires_at.as_second() - 5, "never later than what it carries");

    let keys = cluster.a.client().get("/.well-known/jwks.json").await.ok().body;
    assert!(keys["keys"].as_array().unwrap().iter().any(|key| key["kid"] == header["kid"]), "{keys}");
    assert!(!keys.to_string().contains("\"d\""), "public keys alone");
}

#[tokio::test]
async fn sign_in_tells_nobody_why_not() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    root.patch("/v1/tenants/default/users/cleo", json!({"status": "suspended"})).await.ok();
    let client = cluster.b.client();
    let wrong = client.sign_in("default", "ben", "not his password").await;
    wrong.problem(401, "unauthenticated");
    for (tenant, user) in [("default", "nobody"), ("default", "cleo"), ("nowhere", "ben"), ("DEFAULT", "ben")] {
        let refused = client.sign_in(tenant, user, PASSWORD).await;
        assert_eq!((refused.status.as_u16(), &refused.body), (401, &wrong.body), "{tenant} {user}");
    }
    client.post("/v1/login", json!({"username": "ben", "password": PASSWORD})).await.ok();
}

#[tokio::test]
async fn a_refresh_reads_the_permissions_anew() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    for n in 0..5 {
        let version = root.put(&format!("/v1/tenants/default/users/ben/permissions/p{n}")).await.version();
        let request = on_b.request(Method::POST, "/oauth/token").header("Permcast-At-Least", &version);
        let fields = [("grant_type", "refresh_token"), ("refresh_token", &tokens.refresh)];
        let answer = send(request.form(&fields)).await.ok();
        assert!(seq(answer.body["pv"].as_str().unwrap()) >= seq(&version));
        let claims = part(answer.body["access_token"].as_str().unwrap(), 1);
        assert!(claims["permissions"].as_array().unwrap().contains(&json!(format!("p{n}"))));
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn all_tabs_may_refresh_at_once() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let tokens = on_a.login("ben").await;
    let refreshes = (0..8).map(|n| if n % 2 == 0 { on_a.refresh(&tokens) } else { on_b.refresh(&tokens) });
    let all = futures_util::future::join_all(refreshes).await;
    assert!(all.iter().all(|got| got.refresh == all[0].refresh), "one successor, or itself");
    on_b.refresh(&all[0]).await;
}

/// The form's fields, the status and the error that they come to.
type Case<'a> = (&'a [(&'a str, &'a str)], u16, &'a str);

#[tokio::test]
async fn the_token_endpoint_speaks_oauth() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let client = cluster.a.client();
    let tokens = client.login("ben").await;
    let refresh = tokens.refresh.as_str();
    let cases: [Case<'_>; 6] = [
        (&[], 400, "invalid_request"),
        (&[("grant_type", "password")], 400, "unsupported_grant_type"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "nonsense")], 400, "invalid_grant"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "")], 400, "invalid_grant"),
        (&[("grant_type", "refresh_token"), ("refresh_token", &tokens.access)], 400, "invalid_grant"),
        (
            &[("grant_type", "refresh_token"), ("refresh_token", refresh), ("refresh_token", refresh)],
            400,
            "invalid_request",
        ),
    ];
    for (fields, status, error) in cases {
        let answer = client.form("/oauth/token", fields).await;
        let got = answer.body["error"].as_str().unwrap_or_default();
        // RFC 6749 leaves it open which of the two an empty one is.
        let empty = fields.iter().any(|(_, value)| value.is_empty()) && got == "invalid_request";
        assert!(answer.status.as_u16() == status && (got == error || empty), "{fields:?}: {answer:?}");
        assert_eq!(answer.header("content-type").split(';').next(), Some("application/json"));
    }
    client.refresh(&tokens).await;
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_no_token() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let client = cluster.a.client();
    let token = client.login("ben").await.access;
    let encode = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let [header, claims, signature] = [0, 1, 2].map(|n| token.split('.').nth(n).unwrap().to_owned());
    let mut more = part(&token, 1);
    more["permissions"] = json!(["permcast:operator"]);
    let none = json!({"typ": "at+jwt", "alg": "none"});
    let hmac = json!({"typ": "at+jwt", "alg": "HS256", "kid": part(&token, 0)["kid"]});
    for bad in [
        String::new(),
        "x".to_owned(),
        format!("{header}.{claims}."),
        format!("{header}.{}.{signature}", encode(&more)),
        format!("{}.{claims}.", encode(&none)),
        format!("{}.{claims}.{signature}", encode(&hmac)),
        format!("{header}.{claims}.{signature}.{signature}"),
        format!("{token}, {token}"),
    ] {
        let answer = client.bearing(&bad).get("/v1/me").await;
        answer.problem(401, "unauthenticated");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{bad}");
    }
    client.bearing(&token).get("/v1/me").await.ok();
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let (own, other) = (on_a.login("max").await, on_b.login("max").await);
    let max = on_a.with(&own);
    let changed = max.patch("/v1/tenants/default/users/max", json!({"password": "a new and longer one"})).await;
    let version = changed.version();
    let request = on_b.with(&other).request(Method::GET, "/v1/me").header("Permcast-At-Least", version);
    send(request).await.ended();
    max.get("/v1/me").await.ok();
    assert_eq!(on_b.sign_in("default", "max", PASSWORD).await.status, 401);
    on_b.sign_in("default", "max", "a new and longer one").await.ok();
}
