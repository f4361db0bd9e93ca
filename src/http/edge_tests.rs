use actix_web::http::Method;
use actix_web::test::TestRequest;
use serde_json::json;

use super::house::{House, PAGE};

#[actix_web::test]
async fn pages_of_listed_origins_may_read_and_others_may_not() {
    let house = House::new().await;
    let from = |origin: &str| TestRequest::get().uri("/healthz").insert_header(("Origin", origin.to_owned()));
    let listed = house.ask(from(PAGE)).await.is(200);
    assert_eq!(listed.header("access-control-allow-origin"), PAGE);
    assert!(listed.headers.get("access-control-allow-credentials").is_none());
    for exposed in ["WWW-Authenticate", "Permcast-Version", "Retry-After", "ETag"] {
        assert!(listed.header("access-control-expose-headers").contains(exposed));
    }
    let other = house.ask(from("https://evil.example")).await.is(200);
    assert!(other.headers.get("access-control-allow-origin").is_none());
    assert!(other.header("vary").contains("Origin"));

    let preflight = |origin: &str| {
        TestRequest::with_uri("/v1/me")
            .method(Method::OPTIONS)
            .insert_header(("Origin", origin.to_owned()))
            .insert_header(("Access-Control-Request-Method", "PUT"))
    };
    let allowed = house.ask(preflight(PAGE)).await.is(204);
    assert_eq!(allowed.header("access-control-allow-origin"), PAGE);
    assert!(allowed.header("access-control-allow-headers").contains("Authorization"));
    assert!(house.ask(preflight("https://evil.example")).await.headers.get("access-control-allow-origin").is_none());
}

#[actix_web::test]
async fn a_refused_page_reads_why() {
    let house = House::new().await;
    let refused = house.ask(TestRequest::get().uri("/v1/me").insert_header(("Origin", PAGE))).await;
    refused.problem(401, "unauthenticated");
    assert_eq!(refused.header("access-control-allow-origin"), PAGE);
}

#[actix_web::test]
async fn answers_are_not_kept_not_framed_and_not_guessed_at() {
    let house = House::new().await;
    for path in ["/v1/me", "/nowhere", "/healthz", "/v1/tenants"] {
        let answer = house.ask(TestRequest::get().uri(path)).await;
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
        assert!(!answer.header("strict-transport-security").is_empty(), "the issuer is served over TLS");
    }
}

#[actix_web::test]
async fn a_request_has_a_name() {
    let house = House::new().await;
    let named = |id: &str| TestRequest::get().uri("/healthz").insert_header(("X-Request-ID", id.to_owned()));
    assert_eq!(house.ask(named("bfe9-4c.1")).await.header("x-request-id"), "bfe9-4c.1");
    let long = "a".repeat(129);
    for bad in ["", "a b", "<script>", long.as_str()] {
        let given = house.ask(named(bad)).await;
        assert!(!given.header("x-request-id").is_empty() && given.header("x-request-id") != bad, "{bad}");
    }
}

#[actix_web::test]
async fn what_is_not_served_is_a_problem_that_says_what_is() {
    let house = House::new().await;
    house.ask(TestRequest::get().uri("/v2/x")).await.problem(404, "not-found");
    let wrong = house.ask(TestRequest::delete().uri("/v1/me")).await;
    wrong.problem(405, "method-not-allowed");
    assert_eq!(wrong.header("allow"), "GET, HEAD, OPTIONS");
    let options = house.ask(TestRequest::with_uri("/v1/tenants").method(Method::OPTIONS)).await.is(204);
    assert_eq!(options.header("allow"), "GET, POST, HEAD, OPTIONS");
    let brew = TestRequest::with_uri("/v1/me").method(Method::from_bytes(b"BREW").unwrap());
    house.ask(brew).await.problem(405, "method-not-allowed");
}

#[actix_web::test]
async fn head_is_get_without_the_body() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    house.ask(ada.request(Method::HEAD, "/v1/me")).await.is(200);
    let stream = house.ask(ada.request(Method::HEAD, "/v1/tenants/default/changes/stream")).await.is(200);
    assert!(stream.body.is_null(), "a stream without an end is not begun");
}

#[actix_web::test]
async fn a_body_is_json_of_bounded_size() {
    let house = House::new().await;
    let ada = house.client("ada").await;
    let users = "/v1/tenants/default/users";
    let post = || ada.request(Method::POST, users);
    let good = json!({"id": "eve"}).to_string();
    house.ask(post().set_payload(good.clone())).await.problem(415, "unsupported-media-type");
    for media in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "json"] {
        let request = post().insert_header(("Content-Type", media)).set_payload(good.clone());
        house.ask(request).await.problem(415, "unsupported-media-type");
    }
    let packed = post().insert_header(("Content-Type", "application/json")).insert_header(("Content-Encoding", "gzip"));
    house.ask(packed.set_payload(good.clone())).await.problem(415, "unsupported-media-type");
    let large = json!({"id": "eve", "name": "x".repeat(64 * 1024)});
    ada.post(users, large.clone()).await.problem(413, "too-large");
    let batch = json!({"operations": [{"op": "post", "path": "users", "body": large}]});
    ada.post("/v1/tenants/default/batch", batch).await.problem(422, "invalid");
    ada.post("/v1/tenants/default/batch", json!("x".repeat(1024 * 1024))).await.problem(413, "too-large");
    let broken = post().insert_header(("Content-Type", "application/json")).set_payload("{\"id\":");
    house.ask(broken).await.problem(400, "malformed");
    let fine = post().insert_header(("Content-Type", "application/vnd.x+json; charset=UTF-8")).set_payload(good);
    house.ask(fine).await.is(201);
}
