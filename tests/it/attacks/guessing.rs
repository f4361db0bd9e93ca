//! Who is there, and how soon one would find out his password.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::Scene;
use crate::client::{Answer, Client, send};
use crate::harness::PASSWORD;

/// What an answer shows, without what differs between any two.
fn shown(answer: &Answer) -> (u16, Value, BTreeSet<String>) {
    let mut headers: BTreeSet<String> = BTreeSet::new();
    for (name, value) in &answer.headers {
        let value = if ["date", "x-request-id"].contains(&name.as_str()) { "" } else { value.to_str().unwrap() };
        headers.insert(format!("{name}: {value}"));
    }
    (answer.status.as_u16(), answer.body.clone(), headers)
}

/// How often passwords were hashed: what a sign-in takes its time for.
async fn hashes(client: &Client) -> u64 {
    let metrics = client.get("/metrics").await.ok().body;
    let line = metrics.as_str().unwrap().lines().find(|line| line.starts_with("permcast_password_hashes_total "));
    line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// People of every kind that a sign-in can meet, but for whose password is right: (tenant, user).
const PEOPLE: [(&str, &str); 10] = [
    ("default", "ben"),
    ("default", "root"),
    ("default", "nobody"),
    ("default", "gone"),
    ("default", "held"),
    ("default", "bare"),
    ("default", "ben@example.org"),
    ("default", "nobody@example.org"),
    ("acme", "ben"),
    ("nowhere", "ben"),
];

async fn peopled() -> Scene {
    let mut scene = Scene::start().await;
    let operations = json!({"operations": [
        {"op": "post", "path": "users", "body": {"id": "held", "password": PASSWORD, "status": "suspended"}},
        {"op": "post", "path": "users", "body": {"id": "gone", "password": PASSWORD}},
        {"op": "delete", "path": "users/gone"},
        {"op": "post", "path": "users", "body": {"id": "bare"}},
        {"op": "patch", "path": "users/ben", "body": {"email": "ben@example.org"}},
    ]});
    scene.root.post("/v1/tenants/default/batch", operations).await.ok();
    scene.mark().await;
    scene
}

#[tokio::test]
async fn a_sign_in_tells_nobody_who_is_there_by_text_or_by_time() {
    let scene = peopled().await;
    let client = scene.cluster.a.client();
    let mut answers = Vec::new();
    for (tenant, user) in PEOPLE.into_iter().chain([("default", ""), ("default", "' OR 1=1 --"), ("..", "\u{0}")]) {
        for password in ["wrong", "", "pcs_x"] {
            let before = hashes(&client).await;
            let answer = client.sign_in(tenant, user, password).await;
            if answer.status == 422 {
                // What is no password is told of before anybody is looked for.
                assert!(password.is_empty(), "{tenant}/{user}: {answer:?}");
            } else {
                assert_eq!(hashes(&client).await, before + 1, "{tenant}/{user}: the same work for all");
            }
            answers.push((format!("{tenant}/{user} {password:?}"), password, shown(&answer)));
        }
    }
    // The right password of one who may not come is no better than a wrong one.
    for user in ["held", "gone"] {
        let before = hashes(&client).await;
        let answer = client.sign_in("default", user, PASSWORD).await;
        assert_eq!(hashes(&client).await, before + 1, "{user}");
        answers.push((format!("{user}, rightly"), "wrong", shown(&answer)));
    }
    for (who, password, answer) in &answers {
        let (_, _, first) = answers.iter().find(|(_, other, _)| other == password).unwrap();
        assert_eq!(answer, first, "{who}");
    }
    assert_eq!(answers[0].2.0, 401);
    scene.is_as_it_was().await;
}

#[tokio::test]
async fn a_service_account_is_told_no_more() {
    let scene = peopled().await;
    let client = scene.cluster.a.client();
    let mut answers = Vec::new();
    for (tenant, user) in PEOPLE {
        let before = hashes(&client).await;
        let fields =
            [("grant_type", "client_credentials"), ("tenant", tenant), ("client_id", user), ("client_secret", "wrong")];
        let by_form = client.form("/oauth/token", &fields).await;
        assert_eq!(hashes(&client).await, before + 1, "{tenant}/{user}");
        let basic = client.request(Method::POST, "/oauth/token").basic_auth(user, Some("wrong"));
        let by_basic = send(basic.form(&[("grant_type", "client_credentials"), ("tenant", tenant)])).await;
        assert_eq!(hashes(&client).await, before + 2, "{tenant}/{user}");
        answers.push((format!("{tenant}/{user}"), shown(&by_form)));
        answers.push((format!("{tenant}/{user} by Basic"), shown(&by_basic)));
    }
    for (who, answer) in &answers {
        assert_eq!((answer, answer.0), (&answers[0].1, 401), "{who}");
    }
    scene.is_as_it_was().await;
}

#[tokio::test]
async fn who_guesses_slows_himself_and_never_the_owner() {
    let scene = peopled().await;
    let client = scene.cluster.a.client();
    client.login("ben").await;
    let mut slowed = None;
    for _ in 0..60 {
        let answer = client.sign_in("default", "ben", "wrong").await;
        if answer.status == 429 {
            slowed = Some(answer);
            break;
        }
        answer.problem(401, "unauthenticated");
    }
    let slowed = slowed.expect("guesses are slowed");
    slowed.problem(429, "too-many-requests");
    // The same is told to who guesses at one who is not there.
    let mut ghost = None;
    for _ in 0..60 {
        let answer = client.sign_in("default", "nobody", "wrong").await;
        if answer.status == 429 {
            ghost = Some(answer);
            break;
        }
    }
    assert_eq!(ghost.expect("guesses at nobody are slowed").body["detail"], slowed.body["detail"]);
    // No work is done for one who is to wait, and capitals are no other account.
    let before = hashes(&client).await;
    assert_eq!(client.sign_in("default", "BEN", "wrong").await.status, 429);
    assert_eq!(hashes(&client).await, before);
    client.login("cleo").await;
    scene.is_as_it_was().await;
}
