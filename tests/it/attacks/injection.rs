//! Text that is meant to be read as something else: SQL, lines of the log, commands of a terminal.

use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Scene, refused};
use crate::client::{Client, send};
use crate::harness::{OPERATOR, PASSWORD, Replica};

const SQL: [&str; 6] = [
    "'; DROP TABLE users; --",
    "' OR '1'='1",
    "ben' --",
    "x'; UPDATE users SET password = '' WHERE 1=1; --",
    "\" OR \"\"=\"",
    "%27%20UNION%20SELECT%20private%20FROM%20keys--",
];

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[tokio::test]
async fn sql_is_text_wherever_it_stands() {
    let scene = Scene::start().await;
    let (root, nobody) = (&scene.root, scene.cluster.b.client());
    for text in SQL {
        let word = encoded(text);
        for path in [
            format!("/v1/tenants/{word}/users"),
            format!("/v1/tenants/default/users/{word}"),
            format!("/v1/tenants/default/users/{word}/roles/editor"),
            format!("/v1/tenants/default/users/ben/roles/{word}"),
            format!("/v1/tenants/default/users/ben/permissions/{word}"),
            format!("/v1/tenants/default/users/ben/sessions/{word}"),
            format!("/v1/tenants/default/roles/{word}/includes/viewer"),
            format!("/v1/tenants/default/users?cursor={word}"),
            format!("/v1/tenants/default/users?limit={word}"),
            format!("/v1/tenants/default/changes?after={word}"),
            format!("/v1/tenants/default/changes/{word}/propagation"),
            format!("/v1/forward-auth?require={word}"),
        ] {
            for method in [Method::GET, Method::PUT, Method::DELETE] {
                // A list that knows no such parameter may answer as it does without.
                let answer = send(root.request(method.clone(), &path).json(&json!({}))).await;
                refused(&answer, &format!("{method} {path}"));
            }
        }
        for body in [
            json!({"id": text}),
            json!({"id": "x", "email": text}),
            json!({"id": "x", "kind": text}),
            json!({"id": "x", "status": text}),
            json!({"id": "x", "password": PASSWORD, "email": text}),
        ] {
            refused(&root.post("/v1/tenants/default/users", body.clone()).await, &body.to_string());
        }
        for body in [
            json!({"name": text}),
            json!({"name": "x", "permissions": [text]}),
            json!({"name": "x", "includes": [text]}),
        ] {
            refused(&root.post("/v1/tenants/default/roles", body.clone()).await, &body.to_string());
        }
        for (tenant, user, password) in [("default", text, PASSWORD), ("default", "ben", text), (text, "ben", PASSWORD)]
        {
            nobody.sign_in(tenant, user, password).await.problem(401, "unauthenticated");
        }
        for name in ["Permcast-At-Least", "Prefer", "If-None-Match", "Last-Event-ID", "X-Forwarded-For", "traceparent"]
        {
            let answer = send(root.request(Method::GET, "/v1/me").header(name, text)).await;
            assert!(!answer.status.is_server_error(), "{name}: {answer:?}");
        }
        let question =
            json!({"subject": {"type": "user", "id": text}, "resource": {"type": text}, "action": {"name": text}});
        let told = root.post("/access/v1/evaluation", question).await.ok().body;
        assert_eq!(told["decision"], false);
    }
    scene.is_as_it_was().await;
    // Where any text may stand it is kept to the letter.
    for (number, text) in SQL.into_iter().enumerate() {
        let user = json!({"id": format!("u{number}"), "name": text});
        root.post("/v1/tenants/default/users", user).await.ok();
        let read = root.get(&format!("/v1/tenants/default/users/u{number}")).await.ok().body;
        assert_eq!(read["name"], text);
    }
}

/// A replica that says all it can, and where it says it.
async fn talkative(format: &str) -> (Replica, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let settings = [("PERMCAST_LOG", "permcast=trace,info"), ("PERMCAST_LOG_FORMAT", format)];
    let database = directory.path().join("permcast.db");
    let replica = Replica::start_writing("a", &database, None, &settings, Stdio::from(log)).await;
    (replica, directory)
}

/// What an attacker would like to see as a line of its own, or as a command to the terminal of whoever reads it.
const LINE: &str = "x\r\n2026-11-25T00:00:00.000000Z  INFO the forged line\u{1b}[2J\u{9b}31m\u{202e}\u{8}";

/// Brings it wherever text can be brought.
async fn bring_lines(client: &Client) {
    let tokens = client.login(OPERATOR).await;
    let root = client.with(&tokens);
    let word = encoded(LINE);
    client.sign_in("default", LINE, LINE).await;
    client.sign_in(LINE, "root", "wrong").await;
    client.form("/oauth/token", &[("grant_type", LINE), ("refresh_token", LINE)]).await;
    client.form("/oauth/token", &[("grant_type", "refresh_token"), ("refresh_token", LINE)]).await;
    let basic = client.request(Method::POST, "/oauth/token").basic_auth(LINE, Some(LINE));
    send(basic.form(&[("grant_type", "client_credentials"), ("tenant", LINE)])).await;
    root.form("/oauth/introspect", &[("token", LINE)]).await;
    client.form("/oauth/revoke", &[("token", LINE), ("token_type_hint", LINE)]).await;
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": LINE}).to_string();
    let claims = json!({"iss": LINE, "sub": LINE, "aud": LINE}).to_string();
    let part = crate::provider::text;
    client.bearing(&format!("{}.{}.{}", part(header), part(claims), part(String::new()))).get("/v1/me").await;
    for path in ["users", "roles", "changes", "users/x/roles", "nothing"] {
        root.get(&format!("/v1/tenants/default/{path}/{word}?{word}={word}")).await;
        root.delete(&format!("/v1/tenants/{word}/{path}/{word}")).await;
    }
    root.post("/v1/tenants", json!({"name": "lines", "description": LINE})).await;
    root.post("/v1/tenants/default/users", json!({"id": "lines", "name": LINE})).await;
    root.post("/v1/tenants/default/users", json!({"id": LINE})).await;
    root.post("/v1/tenants/default/roles", json!({"name": "lines", "description": LINE})).await;
    let batch = json!({"operations": [{"op": LINE, "path": LINE, "body": {LINE: LINE}}]});
    root.post("/v1/tenants/default/batch", batch).await;
    root.put_json("/v1/lockdown", json!({"enabled": LINE, "tenant": LINE})).await;
    for name in
        ["User-Agent", "X-Request-ID", "traceparent", "Origin", "Permcast-At-Least", "X-Forwarded-For", "Cookie"]
    {
        // What no header may hold does not leave the client; the rest of it does.
        let value =
            reqwest::header::HeaderValue::from_bytes("x\u{9b}31m\u{202e} the forged line\t\"".as_bytes()).unwrap();
        send(root.request(Method::GET, "/v1/me").header(name, value.clone())).await;
        let login = json!({"username": OPERATOR, "password": PASSWORD});
        send(client.request(Method::POST, "/v1/login").header(name, value).json(&login)).await;
    }
    let mut socket = crate::socket::Socket::open(client).await;
    socket.say(json!({"type": LINE, "token": LINE})).await;
    socket.say(json!({"type": "hello", "token": LINE})).await;
    socket.closes(4401).await;
    // What it brings of its own must not be told, either.
    client.refresh(&tokens).await;
}

fn is_clean(log: &str, secrets: &[&str]) {
    assert!(!log.is_empty());
    for (number, line) in log.lines().enumerate() {
        let at = || format!("line {}: {line:?}", number + 1);
        assert!(!line.starts_with("2026-11-25T00:00:00.000000Z"), "forged: {}", at());
        assert!(line.chars().all(|c| !c.is_control() || c == '\t'), "a command: {}", at());
        assert!(!line.contains('\u{202e}'), "turned around: {}", at());
        for secret in secrets {
            assert!(!line.contains(secret), "a secret: {}", at());
        }
    }
}

#[tokio::test]
async fn a_line_of_the_log_is_written_by_permcast_alone() {
    for format in ["text", "json"] {
        let (mut replica, directory) = talkative(format).await;
        let client = replica.client();
        bring_lines(&client).await;
        let tokens = client.login(OPERATOR).await;
        let signature = tokens.access.rsplit_once('.').unwrap().1;
        client.with(&tokens).get("/v1/me").await.ok();
        replica.terminate();
        replica.exited().await;
        let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
        is_clean(&log, &[PASSWORD, signature, &tokens.refresh]);
        if format == "json" {
            for line in log.lines() {
                serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
            }
        }
    }
}

#[tokio::test]
async fn a_device_is_shown_without_commands_for_the_terminal() {
    let scene = Scene::start().await;
    let client = scene.cluster.a.client();
    let agent = reqwest::header::HeaderValue::from_bytes("Shell\u{9b}31m\u{85}\u{202e} 1.0".as_bytes()).unwrap();
    let login = json!({"username": "ben", "password": PASSWORD});
    send(client.request(Method::POST, "/v1/login").header("User-Agent", agent).json(&login)).await.ok();
    let sessions = scene.root.get("/v1/tenants/default/users/ben/sessions").await.ok().body;
    assert_eq!(sessions["items"][0]["user_agent"], "Shell31m 1.0", "{sessions}");
}
