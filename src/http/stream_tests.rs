use std::pin::pin;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use serde_json::json;

use super::house::{Client, House};

const T: &str = "/v1/tenants/default";

/// What the stream says until it has said `wanted`, or to its end; panics where neither comes.
async fn read<B: MessageBody>(body: &mut std::pin::Pin<&mut B>, wanted: Option<&str>) -> String {
    let mut text = String::new();
    let reading = async {
        while wanted.is_none_or(|wanted| !text.contains(wanted)) {
            match std::future::poll_fn(|context| body.as_mut().poll_next(context)).await {
                Some(Ok(bytes)) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Some(Err(_)) => panic!("the stream broke"),
                None if wanted.is_none() => break,
                None => panic!("the stream ended after {text:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.unwrap();
    text
}

async fn follow(client: &Client<'_>, query: &str) -> ServiceResponse<impl MessageBody + use<>> {
    client.house.call(client.request(Method::GET, &format!("{T}/changes/stream{query}"))).await
}

#[actix_web::test]
async fn the_log_is_followed_from_where_one_was() {
    let house = House::new().await;
    let (ada, root) = (house.client("ada").await, house.client("root").await);
    let response = follow(&ada, "?after=0").await;
    assert_eq!(response.headers().get("content-type").unwrap(), "text/event-stream");
    let mut body = pin!(response.into_body());
    let past = read(&mut body, Some("\"target\":\"viewer\"")).await;
    assert!(past.starts_with(": connected\n\n"), "{past}");
    assert!(!past.contains("acme"), "another tenant's rows are not told");
    let change = root.put(&format!("{T}/users/ben/permissions/a")).await.is(200);
    let id = format!("event: change\nid: {}\ndata: {{", change.body["change"]["seq"]);
    read(&mut body, Some(&id)).await;

    let head = house.services.feed.applied().seq;
    let resumed = ada.request(Method::GET, &format!("{T}/changes/stream?after=0"));
    let resumed = house.call(resumed.insert_header(("Last-Event-ID", head.to_string()))).await;
    let mut body = pin!(resumed.into_body());
    root.put(&format!("{T}/users/ben/permissions/b")).await.is(200);
    let told = read(&mut body, Some("event: change")).await;
    assert!(told.contains(&format!("id: {}\n", head.next())), "{told}");
}

#[actix_web::test]
async fn a_stale_token_does_not_end_a_stream_but_the_loss_of_the_right_does() {
    let house = House::new().await;
    let (ada, root) = (house.client("ada").await, house.client("root").await);
    let mut body = pin!(follow(&ada, "").await.into_body());
    read(&mut body, Some("connected")).await;
    root.put(&format!("{T}/users/ada/permissions/more")).await.is(200);
    ada.get("/v1/me").await.problem(401, "stale-token");
    read(&mut body, Some("event: change")).await;
    root.delete(&format!("{T}/users/ada/permissions/permcast:admin")).await.is(200);
    let last = read(&mut body, None).await;
    assert!(!last.contains("event: change"), "what he may not read any more is not told: {last}");
}

#[actix_web::test]
async fn a_stream_ends_with_its_session() {
    let house = House::new().await;
    let (ada, root) = (house.client("ada").await, house.client("root").await);
    let mut body = pin!(follow(&ada, "").await.into_body());
    read(&mut body, Some("connected")).await;
    root.delete(&format!("{T}/users/ada/sessions")).await.is(200);
    read(&mut body, None).await;
}

#[actix_web::test]
async fn a_stream_ends_with_a_lockdown() {
    let house = House::new().await;
    let (ada, root) = (house.client("ada").await, house.client("root").await);
    let mut body = pin!(follow(&ada, "").await.into_body());
    read(&mut body, Some("connected")).await;
    root.send(Method::PUT, "/v1/lockdown", json!({"enabled": true})).await.is(200);
    read(&mut body, None).await;
}

#[actix_web::test]
async fn a_waiting_answer_comes_at_once_to_one_who_took_his_own_right() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    // A replica that is registered, but never applies anything.
    let replica = crate::domain::records::ReplicaRecord {
        id: "r2".into(),
        started_at: house.services.clock.now(),
        seen_at: house.services.clock.now(),
        applied: crate::domain::Seq::ZERO,
        connections: 0,
    };
    house.services.store.renew_replica(&replica).await.unwrap();
    let path = format!("{T}/users/ada/permissions/permcast:admin");
    let request = ada.request(Method::DELETE, &path).insert_header(("Prefer", "wait=30"));
    let answer = tokio::time::timeout(Duration::from_secs(5), house.ask(request)).await.unwrap().is(200);
    assert_eq!(answer.body["propagation"]["complete"], false, "{answer:?}");
    assert_eq!(answer.body["stale"], true);
}
