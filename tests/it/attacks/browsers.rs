//! What pages of other origins make a browser do: requests and sockets with our cookie, and cookies of theirs.

use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use super::{Scene, refused};
use crate::client::{Answer, Client, send};
use crate::harness::PASSWORD;
use crate::socket::shake;

const ISSUER: &str = "https://permcast.test";

/// Origins that are not ours, however much they look like it.
fn foreign(client: &Client) -> Vec<String> {
    let host = client.base().trim_start_matches("http://");
    let mut origins: Vec<String> = [
        "null",
        "",
        "https://evil.example",
        "http://permcast.test",
        "https://permcast.test.evil.example",
        "https://evilpermcast.test",
        "https://permcast.test:8443",
        "https://permcast.test@evil.example",
        "https://evil.example/https://permcast.test",
        "https://permcast.test, https://evil.example",
        "https://evil.example https://permcast.test",
        "https://permcast.test/",
        "file://",
        "chrome-extension://permcast.test",
        "http://localhost",
        "http://127.0.0.1:1",
    ]
    .map(str::to_owned)
    .into();
    origins.extend([format!("http://{host}.evil.example"), format!("http://{host}/x"), format!("ftp://{host}")]);
    origins
}

fn cookie_of(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

async fn signed_in(client: &Client, user: &str) -> Answer {
    let body = json!({"username": user, "password": PASSWORD, "cookie": true});
    send(client.request(Method::POST, "/v1/login").header("Origin", ISSUER).json(&body)).await.ok()
}

async fn refresh(client: &Client, cookie: &str, origin: Option<&str>) -> Answer {
    let mut request = client.request(Method::POST, "/oauth/token").header("Cookie", cookie);
    if let Some(origin) = origin {
        request = request.header("Origin", origin);
    }
    send(request.form(&[("grant_type", "refresh_token")])).await
}

async fn behind_https() -> Scene {
    Scene::start_with(&[("PERMCAST_ISSUER", ISSUER)]).await
}

#[tokio::test]
async fn a_page_elsewhere_does_nothing_with_our_cookie() {
    let scene = behind_https().await;
    let client = scene.cluster.b.client();
    let answer = signed_in(&client, "root").await;
    let cookie = cookie_of(&answer);
    for origin in foreign(&client) {
        refused(&refresh(&client, &cookie, Some(&origin)).await, &origin);
        let out = client.request(Method::POST, "/v1/logout").header("Cookie", &cookie).header("Origin", &origin);
        send(out).await.problem(401, "unauthenticated");
    }
    refused(&refresh(&client, &cookie, None).await, "no origin");
    send(client.request(Method::POST, "/v1/logout").header("Cookie", &cookie)).await.problem(401, "unauthenticated");
    // The cookie is no token, not even for our own pages.
    for origin in [ISSUER, "https://evil.example"] {
        for (method, path) in [
            (Method::GET, "/v1/me"),
            (Method::GET, "/v1/events"),
            (Method::GET, "/v1/forward-auth?require=invoices:read"),
            (Method::PUT, "/v1/tenants/default/users/cleo/roles/editor"),
            (Method::DELETE, "/v1/tenants/default/users/cleo"),
            (Method::POST, "/v1/tenants/default/batch"),
            (Method::POST, "/v1/keys/rotate"),
            (Method::POST, "/oauth/introspect"),
        ] {
            let request = client.request(method, path).header("Cookie", &cookie).header("Origin", origin);
            refused(&send(request.body("{}")).await, path);
        }
    }
    scene.is_as_it_was().await;
    refresh(&client, &cookie, Some(ISSUER)).await.ok();
}

#[tokio::test]
async fn no_page_elsewhere_signs_its_visitor_in_as_somebody_else() {
    let scene = behind_https().await;
    let client = scene.cluster.b.client();
    let body = json!({"username": "ben", "password": PASSWORD, "cookie": true});
    for origin in foreign(&client) {
        let answer = send(client.request(Method::POST, "/v1/login").header("Origin", &origin).json(&body)).await;
        answer.problem(403, "forbidden");
        assert!(answer.header("set-cookie").is_empty() && answer.header("access-control-allow-origin").is_empty());
    }
    // What a form can send without asking, to wherever it likes.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "json"] {
        for (path, by) in [("/v1/login", &client), ("/v1/tenants/default/users", &scene.root)] {
            let mut request = by.request(Method::POST, path).header("Origin", ISSUER);
            if !kind.is_empty() {
                request = request.header("Content-Type", kind);
            }
            let answer = send(request.body(body.to_string())).await;
            answer.problem(415, "unsupported-media-type");
            assert!(answer.header("set-cookie").is_empty(), "{kind}");
        }
    }
    let form =
        client.request(Method::POST, "/oauth/token").header("Origin", ISSUER).header("Content-Type", "text/plain");
    refused(&send(form.body("grant_type=refresh_token")).await, "a form that is none");
    scene.is_as_it_was().await;
}

#[tokio::test]
async fn a_cookie_that_somebody_planted_is_nobodys_session() {
    let scene = behind_https().await;
    let client = scene.cluster.b.client();
    let attackers = cookie_of(&signed_in(&client, "cleo").await);
    // The victim signs in with the attacker's cookie already in his browser.
    let body = json!({"username": "ben", "password": PASSWORD, "cookie": true});
    let login = client.request(Method::POST, "/v1/login").header("Origin", ISSUER).header("Cookie", &attackers);
    let victim = send(login.json(&body)).await.ok();
    let own = cookie_of(&victim);
    assert_ne!(own, attackers, "a sign-in opens a session of its own");
    let who = async |cookie: &str| {
        let answer = refresh(&client, cookie, Some(ISSUER)).await.ok();
        client.bearing(answer.body["access_token"].as_str().unwrap()).get("/v1/me").await.ok().body
    };
    let (his, theirs) = (who(&own).await, who(&attackers).await);
    assert_eq!((&his["user"], &theirs["user"]), (&json!("ben"), &json!("cleo")));
    assert_ne!(his["session"], theirs["session"]);

    let value = own.split_once('=').unwrap().1;
    // Names that a sibling host, plain HTTP or a sloppy reader would get by with.
    for planted in [
        format!("permcast={value}"),
        format!("__host-permcast={value}"),
        format!("__HOST-PERMCAST={value}"),
        format!("__Host-permcast2={value}"),
        format!("x__Host-permcast={value}"),
        format!("__Host-permcast=\"{value}\""),
        format!("__Host-permcast={value}%3B"),
        format!("__Host-permcast:{value}"),
        format!("__Host-permcast={value},x"),
        format!("\u{a0}__Host-permcast={value}"),
        "__Host-permcast=".to_owned(),
        "__Host-permcast".to_owned(),
        String::new(),
    ] {
        refused(&refresh(&client, &planted, Some(ISSUER)).await, &planted);
    }
    for name in ["Domain", "domain"] {
        assert!(!victim.header("set-cookie").contains(name));
    }
    for attribute in ["; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/;"] {
        assert!(victim.header("set-cookie").contains(attribute), "{victim:?}");
    }
    // A session is chosen by nobody.
    let body = json!({"username": "ben", "password": PASSWORD, "sid": his["session"], "session": his["session"]});
    let answer = client.post("/v1/login", body).await;
    if answer.status == 200 {
        let me = client.bearing(answer.body["access_token"].as_str().unwrap()).get("/v1/me").await.ok().body;
        assert_ne!(me["session"], his["session"]);
    }
    scene.is_as_it_was().await;
}

#[tokio::test]
async fn a_page_elsewhere_opens_no_socket() {
    let scene = behind_https().await;
    let client = scene.cluster.b.client();
    let answer = signed_in(&client, "root").await;
    let (cookie, token) = (cookie_of(&answer), answer.body["access_token"].as_str().unwrap().to_owned());
    let with = |origin: &str, protocol: String| {
        let headers =
            vec![("Origin", origin.to_owned()), ("Cookie", cookie.clone()), ("Sec-WebSocket-Protocol", protocol)];
        let client = client.clone();
        async move { shake(&client, &headers).await.map(|_| ()) }
    };
    for origin in foreign(&client) {
        // Even with the token at hand.
        for protocol in ["permcast.v1".to_owned(), format!("permcast.v1, bearer.{token}")] {
            match with(&origin, protocol).await {
                Err(Error::Http(response)) => assert_eq!(response.status(), 403, "{origin}"),
                other => panic!("{origin}: {other:?}"),
            }
        }
        let events = client.bearing(&token).request(Method::GET, "/v1/events").header("Origin", &origin);
        send(events).await.problem(403, "forbidden");
    }
    // From our own page a socket opens; the cookie alone makes it nobody's.
    let (mut socket, _) = shake(&client, &[("Origin", ISSUER.to_owned()), ("Cookie", cookie.clone())]).await.unwrap();
    socket.say(json!({"type": "ping"})).await;
    socket.closes(4408).await;
    scene.is_as_it_was().await;
}
