//! Refresh tokens (RFC 9700, 2.2.2 and 4.14): brought back, brought all at once, brought where they do not belong.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use super::{Scene, refused};
use crate::client::{Answer, Client, Tokens, send};
use crate::harness::{PASSWORD, until};
use crate::socket::Socket;

fn is_no_grant(answer: &Answer, what: &str) {
    let told = (answer.status.as_u16(), &answer.body["error"]);
    assert_eq!(told, (400, &json!("invalid_grant")), "{what}: {answer:?}");
    assert!(answer.body["access_token"].is_null() && answer.body["refresh_token"].is_null(), "{what}");
}

/// Lets all sessions grow older than the grace of refresh tokens, without waiting for it.
fn pass(scene: &Scene) {
    scene.cluster.sql("UPDATE sessions SET issued_at = issued_at - 11000");
}

/// The same token, so many times on each replica, all at once.
async fn storm(scene: &Scene, tokens: &Tokens, times: usize) -> Vec<Answer> {
    let clients = [scene.cluster.a.client(), scene.cluster.b.client()];
    join_all((0..2 * times).map(|n| clients[n % 2].try_refresh(&tokens.refresh))).await
}

#[tokio::test]
async fn a_storm_of_refreshes_gets_one_successor_and_not_two_families() {
    let scene = Scene::start().await;
    let client = scene.cluster.a.client();
    let mut tokens = client.login("ben").await;
    for round in 0..3 {
        pass(&scene);
        let answers: Vec<Tokens> =
            storm(&scene, &tokens, 16).await.into_iter().map(|answer| answer.ok().tokens()).collect();
        let next = answers[0].clone();
        assert!(answers.iter().all(|answer| answer.refresh == next.refresh), "round {round}: one successor");
        assert_ne!(next.refresh, tokens.refresh, "round {round}");
        tokens = next;
    }
    let sessions = scene.root.get("/v1/tenants/default/users/ben/sessions").await.ok().body;
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1, "{sessions}");
    scene.is_as_it_was().await;
}

#[tokio::test]
async fn whoever_brings_a_token_back_late_ends_all_of_its_line() {
    let mut scene = Scene::start().await;
    let (client, thief) = (scene.cluster.a.client(), scene.cluster.b.client());
    let bystander = client.login("cleo").await;
    let first = client.login("ben").await;
    pass(&scene);
    let second = client.refresh(&first).await;
    pass(&scene);
    let third = thief.refresh(&second).await;
    pass(&scene);
    // All of them at once: the last may still refresh, or be ended by the others before it does; then all is over.
    let answers = join_all([&first, &second, &first].map(|tokens| thief.try_refresh(&tokens.refresh))).await;
    for answer in &answers {
        is_no_grant(answer, "a used token");
    }
    for (what, tokens) in [("the first", &first), ("the second", &second), ("the last", &third)] {
        for client in [&client, &thief] {
            is_no_grant(&client.try_refresh(&tokens.refresh).await, what);
            let bearer = client.with(tokens);
            until("the end", async || (bearer.get("/v1/me").await.status == 401).then_some(())).await;
        }
    }
    client.refresh(&bystander).await;
    scene.mark().await;
    // What is over ends nothing a second time.
    is_no_grant(&client.try_refresh(&first.refresh).await, "a dead token");
    scene.is_as_it_was().await;
}

#[tokio::test]
async fn nothing_is_refreshed_past_the_end_of_a_session() {
    let scene = Scene::start().await;
    let client = scene.cluster.a.client();
    for _ in 0..4 {
        let tokens = client.login("ben").await;
        pass(&scene);
        let out = async { client.with(&tokens).post("/v1/logout", json!({})).await.ok() };
        let (answers, _) = futures_util::join!(storm(&scene, &tokens, 8), out);
        for answer in answers {
            // Whoever was in time has tokens of a session that is over.
            if answer.status == 200 {
                let won = answer.tokens();
                is_no_grant(&client.try_refresh(&won.refresh).await, "won by a race");
                client.with(&won).get("/v1/me").await.ended();
            } else {
                is_no_grant(&answer, "too late");
            }
        }
    }
}

#[tokio::test]
async fn a_refresh_token_is_good_for_one_thing_in_one_session() {
    let scene = Scene::start().await;
    let client = scene.cluster.b.client();
    let (ben, root) = (client.login("ben").await, client.login("root").await);
    let bytes = |token: &str| URL_SAFE_NO_PAD.decode(token).unwrap();
    // One's session and another's secret, each with both tags.
    let (mine, his) = (bytes(&ben.refresh), bytes(&root.refresh));
    for (session, secret, tag) in [(&his, &mine, &mine), (&his, &mine, &his), (&his, &his, &mine), (&mine, &his, &his)]
    {
        let mixed = URL_SAFE_NO_PAD.encode([&session[..16], &secret[16..48], &tag[48..]].concat());
        is_no_grant(&client.try_refresh(&mixed).await, "put together");
    }
    for (what, token) in [
        ("an access token", ben.access.clone()),
        ("padded", format!("{}==", ben.refresh)),
        ("with a space", format!(" {}", ben.refresh)),
        ("with more behind", format!("{}AAAA", ben.refresh)),
        ("cut", ben.refresh[..ben.refresh.len() - 4].to_owned()),
        ("doubled", ben.refresh.repeat(2)),
        ("zeros", URL_SAFE_NO_PAD.encode([0; 64])),
        ("huge", "A".repeat(60_000)),
        ("SQL", "' OR 1=1 --".to_owned()),
    ] {
        is_no_grant(&client.try_refresh(&token).await, what);
    }
    client.bearing(&ben.refresh).get("/v1/me").await.problem(401, "unauthenticated");
    Socket::open(&client).await.refused(&ben.refresh, 4401).await;
    let grant = |grant_type: &'static str, more: Vec<(&'static str, String)>| {
        let client = client.clone();
        async move {
            let mut fields = vec![("grant_type", grant_type)];
            fields.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
            client.form("/oauth/token", &fields).await
        }
    };
    let password = || vec![("username", "root".to_owned()), ("password", PASSWORD.to_owned())];
    for (what, answer) in [
        ("a password grant", grant("password", password()).await),
        ("an implicit grant", grant("implicit", password()).await),
        ("a code", grant("authorization_code", vec![("code", ben.refresh.clone())]).await),
        ("a device", grant("urn:ietf:params:oauth:grant-type:device_code", Vec::new()).await),
        ("a JWT", grant("urn:ietf:params:oauth:grant-type:jwt-bearer", vec![("assertion", ben.access.clone())]).await),
    ] {
        assert_eq!((answer.status.as_u16(), &answer.body["error"]), (400, &json!("unsupported_grant_type")), "{what}");
    }
    let secret = vec![("client_id", "ben".to_owned()), ("client_secret", ben.refresh.clone())];
    refused(&grant("client_credentials", secret).await, "as a secret");
    let subject = vec![
        ("subject_token", ben.refresh.clone()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token".to_owned()),
    ];
    refused(&grant("urn:ietf:params:oauth:grant-type:token-exchange", subject).await, "as a subject");
    scene.is_as_it_was().await;
    // After all of that both go on.
    client.refresh(&ben).await;
    client.refresh(&root).await;
}

#[tokio::test]
async fn nobody_talks_a_refresh_into_more_or_into_older() {
    let mut scene = Scene::start().await;
    let client = scene.cluster.b.client();
    let tokens = client.login("ben").await;
    let taken = scene.root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    scene.mark().await;
    let ask = async |client: &Client, more: &[(&str, &str)], at_least: &str| {
        let fields = [&[("grant_type", "refresh_token"), ("refresh_token", &tokens.refresh)], more].concat();
        let request = client.request(Method::POST, "/oauth/token").header("Permcast-At-Least", at_least);
        send(request.form(&fields)).await
    };
    for more in [
        &[("scope", "permcast:operator invoices:write")][..],
        &[("tenant", "acme")],
        &[("username", "root")],
        &[("user", "root"), ("sub", "default/root"), ("permissions", "permcast:operator")],
        &[("pv", &tokens.pv)],
        &[("client_id", "root")],
        &[("alg", "none")],
    ] {
        let answer = ask(&client, more, &taken).await;
        if answer.status != 200 {
            refused(&answer, &format!("{more:?}"));
            continue;
        }
        let got = answer.tokens();
        let me = client.with(&got).get("/v1/me").await.ok().body;
        let held = (&me["tenant"], &me["user"], &me["permissions"]);
        assert_eq!(held, (&json!("default"), &json!("ben"), &json!([])), "{more:?}");
    }
    for twice in [
        "grant_type=refresh_token&refresh_token=x&refresh_token=",
        "grant_type=refresh_token&grant_type=x&refresh_token=",
    ] {
        let form = client.request(Method::POST, "/oauth/token").body(format!("{twice}{}", tokens.refresh));
        let answer = send(form.header("Content-Type", "application/x-www-form-urlencoded")).await;
        assert_eq!((answer.status.as_u16(), &answer.body["error"]), (400, &json!("invalid_request")), "{twice}");
    }
    // An older version is not owed to anybody.
    let old = ask(&client, &[], &tokens.pv).await.ok().tokens();
    assert!(crate::client::seq(&old.pv) >= crate::client::seq(&taken));
    scene.is_as_it_was().await;
}
