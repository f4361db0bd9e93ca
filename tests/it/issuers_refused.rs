//! What of identity providers is not believed, and what they cannot do to us.

use serde_json::{Value, json};

use crate::client::Client;
use crate::harness::until;
use crate::issuers::{bind, exchange, trusting};
use crate::provider::{AUDIENCE, Key, Mode, Provider, header, text};

async fn is_refused(client: &Client, token: &str, what: &str) {
    let answer = client.bearing(token).get("/v1/me").await;
    assert_eq!((answer.status.as_u16(), &answer.body["type"]), (401, &json!("/problems/unauthenticated")), "{what}");
    assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}");
}

#[tokio::test]
async fn a_token_that_does_not_hold_is_not_believed() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({})).await;
    bind(&root, &provider, "default", "ben", &["b-1"]).await;
    let client = cluster.a.client();
    let now = jiff::Timestamp::now().as_second();
    let (key, other) = (&provider.key, Key::new("k1"));
    let with = |more: Value| provider.token_with("b-1", &more);
    let headed = |more: Value| {
        let mut header = header(key);
        for (name, value) in more.as_object().unwrap() {
            header[name] = value.clone();
        }
        key.token(&header, &provider.claims("b-1").to_string())
    };
    let claims = provider.claims("b-1").to_string();
    let good = provider.token("b-1");
    let [head, body, signature] = [0, 1, 2].map(|n| good.split('.').nth(n).unwrap());
    let unsigned = text(json!({"alg": "none", "typ": "JWT"}).to_string());
    let twice = claims.replacen('{', r#"{"sub": "another", "#, 1);
    client.bearing(&good).get("/v1/me").await.ok();
    for (what, token) in [
        ("for somebody else", with(json!({"aud": "https://elsewhere.test"}))),
        ("for nobody", with(json!({"aud": null}))),
        ("for a list of others", with(json!({"aud": ["a", "b"]}))),
        ("of another issuer", with(json!({"iss": format!("{}/", provider.issuer)}))),
        ("of nobody", with(json!({"iss": null}))),
        ("over", with(json!({"exp": now - 6}))),
        ("without an end", with(json!({"exp": null}))),
        ("not valid yet", with(json!({"nbf": now + 60}))),
        ("of the future", with(json!({"iat": now + 60}))),
        ("of no time", with(json!({"iat": null}))),
        ("times as text", with(json!({"exp": (now + 60).to_string()}))),
        ("of an unknown user", provider.token("b-2")),
        ("of no user", with(json!({"sub": null}))),
        ("of a user who is no text", with(json!({"sub": ["b-1"]}))),
        ("bound to a key", with(json!({"cnf": {"jkt": "x"}}))),
        ("a logout token", with(json!({"events": {}}))),
        ("an ID token", with(json!({"at_hash": "x"}))),
        ("of another type", headed(json!({"typ": "logout+jwt"}))),
        ("a DPoP proof", headed(json!({"typ": "dpop+jwt"}))),
        ("of no type", headed(json!({"typ": 1}))),
        ("with a key of its own", headed(json!({"jwk": other.jwk()}))),
        ("with a place for keys", headed(json!({"jku": "http://127.0.0.1/x"}))),
        ("with what must be understood", headed(json!({"crit": ["x"]}))),
        ("of another algorithm", headed(json!({"alg": "ES256"}))),
        ("signed by HMAC", headed(json!({"alg": "HS256"}))),
        ("a name that is no text", headed(json!({"kid": 1}))),
        ("signed by another", other.token(&header(&other), &claims)),
        ("with a member twice", key.token(&header(key), &twice)),
        ("unsigned", format!("{unsigned}.{body}.")),
        ("with its signature cut", format!("{head}.{body}.{}", &signature[..40])),
        ("in four parts", format!("{good}.{signature}")),
        ("too large", with(json!({"more": "x".repeat(20_000)}))),
    ] {
        is_refused(&client, &token, what).await;
    }
    client.bearing(&with(json!({"aud": ["a", AUDIENCE], "exp": now - 3}))).get("/v1/me").await.ok();
    for (token, as_a) in [
        (headed(json!({"typ": "at+jwt"})), "id_token"),
        (with(json!({"at_hash": "x"})), "access_token"),
        (with(json!({"aud": "x"})), "jwt"),
        (other.token(&header(&other), &claims), "jwt"),
        (root.login("root").await.access, "jwt"),
        ("nonsense".to_owned(), "jwt"),
    ] {
        let answer = exchange(&client, &token, as_a).await;
        assert_eq!((answer.status.as_u16(), &answer.body["error"]), (400, &json!("invalid_grant")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_new_key_is_found_and_made_up_ones_fetch_nothing() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({})).await;
    bind(&root, &provider, "default", "ben", &["b-1"]).await;
    let client = cluster.a.client();
    client.bearing(&provider.token("b-1")).get("/v1/me").await.ok();
    let claims = provider.claims("b-1").to_string();
    let rotated = Key::new("k2");
    provider.show(&[provider.key.jwk(), rotated.jwk()]);
    client.bearing(&rotated.token(&header(&rotated), &claims)).get("/v1/me").await.ok();
    let asked = provider.asked();
    let storm = (0..60).map(|n| {
        let made_up = Key::new(&format!("x{n}"));
        let token = made_up.token(&header(&made_up), &claims);
        let client = client.clone();
        async move { is_refused(&client, &token, "a made-up key").await }
    });
    futures_util::future::join_all(storm).await;
    assert_eq!(provider.asked(), asked, "one reading a while, however many ask");
    // Who names no issuer that is trusted costs nothing at all.
    let nobody = provider.token_with("b-1", &json!({"iss": "http://127.0.0.1:1"}));
    is_refused(&client, &nobody, "an unknown issuer").await;
    assert_eq!(provider.asked(), asked);
}

#[tokio::test]
async fn a_provider_that_misbehaves_is_not_believed() {
    let elsewhere = Provider::start().await;
    for mode in [
        Mode::Status(500),
        Mode::RedirectTo(format!("{}/jwks", elsewhere.issuer)),
        Mode::Padded(300 * 1024),
        Mode::KeysAt(format!("{}/jwks", elsewhere.issuer)),
        Mode::KeysAt("http://169.254.169.254/latest".to_owned()),
        Mode::KeysAt("https://127.0.0.1/jwks".to_owned()),
        Mode::KeysAt("file:///etc/hosts".to_owned()),
        Mode::As(elsewhere.issuer.clone()),
    ] {
        let provider = Provider::start().await;
        // The keys themselves are good, and shown elsewhere, too.
        elsewhere.show(&[provider.key.jwk()]);
        provider.behave(mode);
        let (cluster, root) = trusting(&provider, &json!({})).await;
        bind(&root, &provider, "default", "ben", &["b-1"]).await;
        let client = cluster.a.client();
        is_refused(&client, &provider.token("b-1"), "keys that were not had").await;
        assert_eq!(exchange(&client, &provider.token("b-1"), "jwt").await.body["error"], "invalid_grant");
    }
    assert_eq!(elsewhere.asked(), 0);
}

#[tokio::test]
async fn a_provider_that_is_silent_holds_nobody_up() {
    let provider = Provider::start().await;
    provider.behave(Mode::Never);
    let (cluster, root) = trusting(&provider, &json!({})).await;
    bind(&root, &provider, "default", "ben", &["b-1"]).await;
    let client = cluster.a.client();
    let token = provider.token("b-1");
    let waiting = async { is_refused(&client, &token, "nobody to ask").await };
    let others = async {
        for _ in 0..20 {
            client.login("ben").await;
        }
    };
    tokio::join!(waiting, others);
}

#[tokio::test]
async fn keys_are_kept_while_the_provider_is_away() {
    let provider = Provider::start().await;
    let (cluster, root) = trusting(&provider, &json!({})).await;
    bind(&root, &provider, "default", "ben", &["b-1"]).await;
    let client = cluster.a.client();
    client.bearing(&provider.token("b-1")).get("/v1/me").await.ok();
    provider.behave(Mode::Status(503));
    is_refused(&client, &Key::new("x").token(&header(&Key::new("x")), "{}"), "no issuer").await;
    let unknown = Key::new("x");
    is_refused(&client, &unknown.token(&header(&unknown), &provider.claims("b-1").to_string()), "unknown").await;
    client.bearing(&provider.token("b-1")).get("/v1/me").await.ok();
}

#[tokio::test]
async fn failed_exchanges_are_slowed() {
    let provider = Provider::start().await;
    let (cluster, _) = trusting(&provider, &json!({})).await;
    let (client, token) = (cluster.a.client(), provider.token("nobody"));
    let slowed = until("a limit", async || {
        let answer = exchange(&client, &token, "id_token").await;
        (answer.status == 429).then_some(answer)
    })
    .await;
    assert!(slowed.header("retry-after").parse::<u64>().unwrap() >= 1);
}
