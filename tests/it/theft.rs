//! Refresh tokens that are used again, the cookie that holds one, and the end of a session by whoever holds a token of it.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::client::{Answer, Client, Tokens, send};
use crate::company::company;
use crate::harness::{Cluster, ISSUER, PASSWORD, until};
use crate::socket::Socket;

/// Lets all sessions grow older than the grace of refresh tokens, without waiting for it.
fn pass(cluster: &Cluster) {
    cluster.sql("UPDATE sessions SET issued_at = issued_at - 11000");
}

fn invalid_grant(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), &answer.body["error"]), (400, &json!("invalid_grant")), "{answer:?}");
}

/// A session that is over: at once where it was ended, within the bound on the other.
async fn is_over(client: &Client, tokens: &Tokens) {
    until("the end of the session", async || {
        let answer = client.with(tokens).get("/v1/me").await;
        (answer.status == 401).then(|| answer.ended())
    })
    .await;
    invalid_grant(&client.try_refresh(&tokens.refresh).await);
}

#[tokio::test]
async fn a_refresh_token_that_is_used_again_after_its_time_ends_the_session_everywhere() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let first = on_a.login("ben").await;
    let bystander = on_a.login("ben").await;
    assert_eq!(on_b.refresh(&first).await.refresh, first.refresh, "a young one answers itself");
    pass(&cluster);

    let second = on_a.refresh(&first).await;
    assert_ne!(second.refresh, first.refresh);
    for client in [&on_b, &on_a, &on_b] {
        assert_eq!(client.refresh(&first).await.refresh, second.refresh, "within the grace the same successor");
    }
    pass(&cluster);
    let third = on_b.refresh(&second).await;
    assert_ne!(third.refresh, second.refresh);

    let mut sockets = [Socket::hello(&on_a, &third).await, Socket::hello(&on_b, &third).await];
    let thief = on_b.try_refresh(&first.refresh).await;
    invalid_grant(&thief);
    for socket in &mut sockets {
        assert_eq!(socket.expect("session_revoked").await["reason"], "refresh_reuse");
        socket.expect_close(4403).await;
    }
    for client in [&on_a, &on_b] {
        for tokens in [&first, &second, &third] {
            is_over(client, tokens).await;
        }
        client.with(&bystander).get("/v1/me").await.ok();
    }
    let counted = on_b.get("/metrics").await.ok();
    assert!(counted.body.as_str().unwrap().contains("permcast_refresh_reuse_total 1"), "counted apart");
    on_a.refresh(&bystander).await;
}

#[tokio::test]
async fn what_only_looks_like_a_refresh_token_ends_nothing() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let client = cluster.a.client();
    let tokens = client.login("ben").await;
    let last = if tokens.refresh.ends_with('A') { 'B' } else { 'A' };
    let similar = format!("{}{last}", &tokens.refresh[..tokens.refresh.len() - 1]);
    for bad in [similar.as_str(), &tokens.refresh[1..], "A", &tokens.access] {
        invalid_grant(&client.try_refresh(bad).await);
    }
    client.with(&tokens).get("/v1/me").await.ok();
    client.refresh(&tokens).await;
}

/// Signs in as a page does that lets the browser keep the refresh token.
async fn sign_in_by_cookie(client: &Client, origin: &str) -> Answer {
    let body = json!({"username": "ben", "password": PASSWORD, "cookie": true});
    send(client.request(Method::POST, "/v1/login").header("Origin", origin).json(&body)).await
}

/// The pair that the browser would send, and what else the cookie says.
fn cookie(answer: &Answer) -> (String, Vec<String>) {
    let mut parts = answer.header("set-cookie").split("; ").map(str::to_owned);
    (parts.next().unwrap(), parts.collect())
}

async fn refresh_by_cookie(client: &Client, cookie: &str, origin: Option<&str>) -> Answer {
    let mut request = client.request(Method::POST, "/oauth/token").header("Cookie", cookie);
    if let Some(origin) = origin {
        request = request.header("Origin", origin);
    }
    send(request.form(&[("grant_type", "refresh_token")])).await
}

#[tokio::test]
async fn a_cookie_works_for_pages_of_our_own_alone() {
    let friend = "https://app.example.com";
    let cluster = Cluster::start_with(&[("PERMCAST_ALLOWED_ORIGINS", friend)]).await;
    company(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    for foreign in ["https://evil.example", "null", friend] {
        let refused = sign_in_by_cookie(&on_a, foreign).await;
        assert_eq!(refused.status, 403, "{foreign}: {refused:?}");
        assert!(refused.header("set-cookie").is_empty());
    }
    let signed_in = sign_in_by_cookie(&on_a, on_a.base()).await.ok();
    assert!(signed_in.body["refresh_token"].is_null() && signed_in.body["access_token"].is_string(), "{signed_in:?}");
    assert_eq!(signed_in.header("cache-control"), "no-store");
    let (mut pair, attributes) = cookie(&signed_in);
    assert!(pair.starts_with("permcast=") && pair.len() > 40, "{pair}");
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(attributes.iter().any(|own| own == attribute), "{attribute}: {attributes:?}");
    }
    assert!(!attributes.iter().any(|own| own.starts_with("Domain")), "for this host alone: {attributes:?}");

    pass(&cluster);
    for foreign in [None, Some("https://evil.example"), Some("null"), Some(friend)] {
        let refused = refresh_by_cookie(&on_a, &pair, foreign).await;
        assert_eq!(refused.status, 403, "{foreign:?}: {refused:?}");
        assert!(refused.body["access_token"].is_null() && refused.header("set-cookie").is_empty());
    }
    for client in [&on_a, &on_b] {
        let refreshed = refresh_by_cookie(client, &pair, Some(client.base())).await.ok();
        assert!(refreshed.body["refresh_token"].is_null(), "out of reach of scripts: {refreshed:?}");
        let (next, _) = cookie(&refreshed);
        assert_ne!(next, pair, "the refused ones used nothing up");
        pair = next;
        pass(&cluster);
    }
    let by_issuer = refresh_by_cookie(&on_b, &pair, Some(ISSUER)).await.ok();
    (pair, _) = cookie(&by_issuer);

    let access = by_issuer.body["access_token"].as_str().unwrap();
    let out = on_a.bearing(access).request(Method::POST, "/v1/logout").header("Cookie", &pair);
    let out = send(out.header("Origin", on_a.base())).await;
    assert_eq!(out.status, 204, "{out:?}");
    let (emptied, attributes) = cookie(&out);
    assert!(emptied == "permcast=" && attributes.iter().any(|own| own == "Max-Age=0"), "{emptied} {attributes:?}");
    let refused = refresh_by_cookie(&on_b, &pair, Some(on_b.base())).await;
    invalid_grant(&refused);
    assert_eq!(cookie(&refused).0, "permcast=", "of a session that is over nothing is kept");
}

#[tokio::test]
async fn behind_https_the_cookie_is_bound_to_the_host() {
    let cluster = Cluster::start_with(&[("PERMCAST_ISSUER", "https://permcast.test")]).await;
    company(&cluster).await;
    let client = cluster.b.client();
    let signed_in = sign_in_by_cookie(&client, "https://permcast.test").await.ok();
    let (pair, attributes) = cookie(&signed_in);
    assert!(pair.starts_with("__Host-permcast="), "{pair}");
    assert!(attributes.iter().any(|own| own == "Secure"), "{attributes:?}");
    refresh_by_cookie(&client, &pair, Some("https://permcast.test")).await.ok();
    let plain = pair.replacen("__Host-permcast", "permcast", 1);
    let refused = refresh_by_cookie(&client, &plain, Some("https://permcast.test")).await;
    assert_eq!((refused.status.as_u16(), &refused.body["error"]), (400, &json!("invalid_request")), "{refused:?}");
}

#[tokio::test]
async fn who_holds_a_token_may_end_its_session() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let bystander = on_b.login("ben").await;
    for kind in ["access", "refresh"] {
        let tokens = on_b.login("ben").await;
        let mut socket = Socket::hello(&on_b, &tokens).await;
        let token = if kind == "access" { &tokens.access } else { &tokens.refresh };
        let hint = format!("{kind}_token");
        let revoked = on_a.form("/oauth/revoke", &[("token", token), ("token_type_hint", &hint)]).await;
        assert_eq!(revoked.status, 200, "{revoked:?}");
        assert_eq!(socket.expect("session_revoked").await["reason"], "signed_out");
        socket.expect_close(4403).await;
        for client in [&on_a, &on_b] {
            is_over(client, &tokens).await;
        }
        on_a.form("/oauth/revoke", &[("token", token)]).await.ok();
    }
    // RFC 7009: what is no token is revoked enough; no token at all is a mistake.
    on_a.form("/oauth/revoke", &[("token", "nonsense")]).await.ok();
    let nothing = on_a.form("/oauth/revoke", &[]).await;
    assert_eq!((nothing.status.as_u16(), &nothing.body["error"]), (400, &json!("invalid_request")));
    tokio::time::timeout(Duration::from_secs(5), on_b.refresh(&bystander)).await.unwrap();
}
