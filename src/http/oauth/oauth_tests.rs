use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::origin::Origins;
use super::super::route::Routes;
use crate::cache::{CacheLimits, PermissionCache};
use crate::domain::Kind;
use crate::domain::operation::{NewLockdown, Operation};
use crate::domain::permission::{CHECK, OPERATOR};
use crate::domain::records::UserKind;
use crate::feed::{Controls, Feed};
use crate::gate::{Gate, OnStale};
use crate::hub::{Hub, Limits};
use crate::issuer::Issuers;
use crate::token::bench::{Bench, ISSUER, StandingClock, Wishes};
use crate::token::{GuessLimits, Rate};

const HOST: &str = "issuer.test";

/// The endpoints over one replica.
struct House {
    bench: Bench,
    controls: Arc<Controls>,
    gate: web::Data<Gate>,
    feed: Feed,
}

/// An answer, read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_else(|| panic!("{member} in {}", self.body))
    }
}

async fn house_with(wishes: Wishes) -> House {
    let bench = Bench::with(wishes).await;
    bench.user("ben", UserKind::Person, &["invoices:read"]).await;
    bench.user("ada", UserKind::Person, &[OPERATOR]).await;
    bench.user("robot", UserKind::Service, &["invoices:read"]).await;
    bench.user("checker", UserKind::Service, &[CHECK]).await;
    let clock = || Arc::<StandingClock>::clone(&bench.clock);
    let (store, floors, applied) = (&bench.store, &bench.feed.floors, &bench.applied);
    let cache = PermissionCache::new(
        Arc::clone(store),
        Arc::clone(floors),
        Arc::clone(applied),
        clock(),
        CacheLimits::default(),
    );
    let hub = Hub::new(Arc::clone(floors), clock(), Limits::default());
    let controls = Arc::new(Controls::new(Arc::clone(store), Arc::clone(&bench.keys), hub));
    let feed = Feed::new(Arc::clone(applied), clock());
    let gate = web::Data::new(Gate::new(
        Arc::clone(&bench.verifier),
        Arc::new(Issuers::new(Vec::new(), Arc::clone(store), clock()).unwrap()),
        Arc::clone(floors),
        Arc::new(cache),
        feed.clone(),
        Arc::clone(&controls),
        clock(),
        Duration::from_secs(1),
        // Nobody reads the tail here.
        OnStale::Serve,
    ));
    House { bench, controls, gate, feed }
}

async fn house() -> House {
    house_with(Wishes::default()).await
}

impl House {
    async fn ask(&self, request: TestRequest) -> Answer {
        let app = App::new()
            .app_data(web::Data::from(Arc::clone(&self.bench.sessions)))
            .app_data(web::Data::from(Arc::clone(&self.bench.keys)))
            .app_data(web::Data::from(Arc::clone(&self.bench.verifier)))
            .app_data(self.gate.clone())
            .app_data(web::Data::new(self.feed.clone()))
            .app_data(web::Data::new(Origins::new(ISSUER, ["https://app.example"])))
            .configure(|cfg| {
                let mut routes = Routes::default();
                super::routes(&mut routes);
                routes.install(cfg);
            });
        let app = init_service(app).await;
        let peer = "192.0.2.1:4711".parse().unwrap();
        let answer: ServiceResponse = call_service(&app, request.peer_addr(peer).to_request()).await;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = read_body(answer).await;
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Answer { status, headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(TestRequest::get().uri(path)).await
    }

    async fn login(&self, body: Value) -> Answer {
        self.ask(login(body)).await
    }

    /// Posts a form with these headers.
    async fn post(&self, path: &str, form: &[(&str, &str)], headers: &[(&'static str, &str)]) -> Answer {
        let request = TestRequest::post().uri(path).set_form(form);
        self.ask(headers.iter().fold(request, |request, header| request.insert_header(*header))).await
    }

    async fn refresh(&self, token: &str) -> Answer {
        self.post("/oauth/token", &[("grant_type", "refresh_token"), ("refresh_token", token)], &[]).await
    }

    async fn introspect(&self, token: &str, caller: &str) -> Answer {
        self.post("/oauth/introspect", &[("token", token)], &[("authorization", caller)]).await
    }
}

fn login(body: Value) -> TestRequest {
    TestRequest::post().uri("/v1/login").insert_header(("host", HOST)).set_json(body)
}

fn by(user: &str) -> Value {
    json!({"username": user, "password": format!("secret of {user}")})
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// The value of a `Set-Cookie`.
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[actix_web::test]
async fn a_sign_in_answers_with_tokens_that_nobody_keeps() {
    let house = house().await;
    let answer = house.login(by("ben")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!((answer.text("token_type"), &answer.body["expires_in"]), ("Bearer", &json!(900)));
    assert_eq!(answer.text("pv"), house.bench.applied.version().to_string());
    assert!(house.gate.caller(answer.text("access_token")).await.is_ok());
    assert!(answer.headers.get("set-cookie").is_none());
    assert_eq!(house.refresh(answer.text("refresh_token")).await.status, 200);
}

#[actix_web::test]
async fn wrong_sign_ins_are_401_and_bad_ones_say_what_is_bad() {
    let house = house().await;
    let mut bodies = Vec::new();
    for body in [
        json!({"username": "ben", "password": "wrong"}),
        by("nobody"),
        json!({"username": "ben", "password": "secret of ben", "tenant": "other"}),
        json!({"username": "ben", "password": "secret of ben", "tenant": "NO TENANT"}),
    ] {
        let answer = house.login(body).await;
        assert_eq!(answer.status, 401);
        bodies.push(answer.body);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "they cannot be told apart");
    for (body, pointer) in [
        (json!({}), "/username"),
        (json!({"username": 1, "password": "x"}), "/username"),
        (json!({"username": "ben", "password": ""}), "/password"),
        (json!({"username": "ben", "password": "x", "cookie": "yes"}), "/cookie"),
        (json!({"username": "ben", "password": "x", "admin": true}), "/admin"),
    ] {
        let answer = house.login(body).await;
        assert_eq!((answer.status.as_u16(), &answer.body["errors"][0]["pointer"]), (422, &json!(pointer)));
    }
    let form = TestRequest::post().uri("/v1/login").set_form([("username", "ben"), ("password", "secret of ben")]);
    assert_eq!(house.ask(form).await.status, 415);
}

#[actix_web::test]
async fn guessing_is_429_with_a_time_to_wait() {
    let rate = |burst| Rate { burst, every: Duration::from_secs(7) };
    let limits = GuessLimits { pair: rate(2), account: rate(100), address: rate(100), entries_max: 100 };
    let house = house_with(Wishes { limits, ..Wishes::default() }).await;
    for _ in 0..2 {
        assert_eq!(house.login(json!({"username": "ben", "password": "wrong"})).await.status, 401);
    }
    let answer = house.login(by("ben")).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "7"));
    let form = [("grant_type", "client_credentials"), ("client_id", "robot"), ("client_secret", "wrong")];
    for expected in [401, 401, 429] {
        assert_eq!(house.post("/oauth/token", &form, &[]).await.status, expected);
    }
}

#[actix_web::test]
async fn pages_of_other_origins_do_not_sign_in() {
    let house = house().await;
    let from = |origin: &'static str, cookie: bool| {
        let mut body = by("ben");
        body["cookie"] = json!(cookie);
        login(body).insert_header(("origin", origin))
    };
    assert_eq!(house.ask(from("https://evil.example", false)).await.status, 403);
    assert_eq!(house.ask(from("null", false)).await.status, 403);
    assert_eq!(house.ask(from("https://app.example", false)).await.status, 200);
    assert_eq!(house.ask(from("https://app.example", true)).await.status, 403, "cookies are for our own pages");
    assert_eq!(house.ask(from(ISSUER, true)).await.status, 200);
}

#[actix_web::test]
async fn a_cookie_takes_the_refresh_tokens_place() {
    let house = house().await;
    let mut body = by("ben");
    body["cookie"] = json!(true);
    let answer = house.login(body).await;
    assert!(answer.body.get("refresh_token").is_none());
    let set = answer.header("set-cookie");
    assert!(
        set.starts_with("permcast=") && set.ends_with("; Max-Age=86400; Path=/; HttpOnly; SameSite=Strict"),
        "{set}"
    );
    let sent = format!("other=1; {}", cookie(&answer));
    let form = [("grant_type", "refresh_token")];
    let own = [("cookie", &*sent), ("origin", ISSUER), ("host", HOST)];
    for foreign in [
        &own[..1],
        &[own[0], ("origin", "https://evil.example"), own[2]],
        &[own[0], ("origin", "https://app.example"), own[2]],
        &[own[0], ("origin", "null"), own[2]],
    ] {
        assert_eq!(house.post("/oauth/token", &form, foreign).await.status, 403, "{foreign:?}");
    }
    house.bench.clock.pass(Duration::from_secs(10));
    let refreshed = house.post("/oauth/token", &form, &own).await;
    assert_eq!(refreshed.status, 200);
    assert!(refreshed.body.get("refresh_token").is_none());
    assert_ne!(cookie(&refreshed), cookie(&answer));
    assert_eq!(house.post("/oauth/token", &form, &own[1..]).await.body["error"], "invalid_request");
    // Theft: the session ends, and the browser forgets the cookie.
    house.bench.clock.pass(Duration::from_secs(10));
    let stolen = house.post("/oauth/token", &form, &own).await;
    assert_eq!((stolen.status.as_u16(), stolen.text("error")), (400, "invalid_grant"));
    assert!(stolen.header("set-cookie").starts_with("permcast=; Max-Age=0; Path=/;"));
}

#[actix_web::test]
async fn errors_of_the_token_endpoint_are_those_of_rfc_6749() {
    let house = house().await;
    let refresh = ("grant_type", "refresh_token");
    let token_exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    for (form, status, error) in [
        (&[][..], 400, "invalid_request"),
        (&[("grant_type", "")], 400, "invalid_request"),
        (&[("grant_type", "password")], 400, "unsupported_grant_type"),
        (&[("grant_type", token_exchange)], 400, "invalid_request"),
        (&[refresh], 400, "invalid_request"),
        (&[refresh, refresh], 400, "invalid_request"),
        (&[refresh, ("refresh_token", "garbage")], 400, "invalid_grant"),
        (&[("grant_type", "client_credentials")], 401, "invalid_client"),
        (&[("grant_type", "client_credentials"), ("client_secret", "x")], 400, "invalid_request"),
    ] {
        let answer = house.post("/oauth/token", form, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.text("error")), (status, error), "{form:?}");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let json = TestRequest::post().uri("/oauth/token").set_json(json!({"grant_type": "refresh_token"}));
    assert_eq!(house.ask(json).await.body["error"], "invalid_request");
    let large = "x".repeat(70_000);
    let answer = house.post("/oauth/token", &[refresh, ("refresh_token", &large)], &[]).await;
    assert_eq!((answer.status.as_u16(), answer.text("error")), (413, "invalid_request"));
}

#[actix_web::test]
async fn a_refresh_is_at_least_as_new_as_demanded() {
    let house = house().await;
    let signed_in = house.login(by("ben")).await;
    let version = house.bench.grant("ben", "invoices:pay", None).await.version.to_string();
    let form = [("grant_type", "refresh_token"), ("refresh_token", signed_in.text("refresh_token"))];
    let at_least = async |version: &str| house.post("/oauth/token", &form, &[("permcast-at-least", version)]).await;
    assert_eq!(at_least(&version).await.text("pv"), version);
    assert_eq!(at_least("zzzzzzzz.1").await.status, 412);
    assert_eq!(at_least("x").await.status, 400);
    let (epoch, _) = version.split_once('.').unwrap();
    let late = at_least(&format!("{epoch}.999")).await;
    assert_eq!((late.status.as_u16(), late.text("error")), (503, "temporarily_unavailable"));
    assert!(!late.header("retry-after").is_empty());
    assert_eq!(at_least(&version).await.status, 200, "the token was not used up");
}

#[actix_web::test]
async fn a_service_account_authenticates_by_basic_or_form() {
    let house = house().await;
    let grant = ("grant_type", "client_credentials");
    let header = basic("robot", "secret%20of%20robot");
    let answer = house.post("/oauth/token", &[grant], &[("authorization", &header)]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.get("refresh_token").is_none());
    let secret = ("client_secret", "secret of robot");
    let in_form = [grant, ("client_id", "robot"), secret, ("tenant", "default")];
    assert_eq!(house.post("/oauth/token", &in_form, &[]).await.status, 200);
    assert_eq!(house.post("/oauth/token", &in_form, &[("authorization", &header)]).await.status, 400, "both");
    for (user, secret) in [("robot", "wrong"), ("nobody", "x"), ("ben", "secret of ben")] {
        let answer = house.post("/oauth/token", &[grant], &[("authorization", &basic(user, secret))]).await;
        assert_eq!((answer.status.as_u16(), answer.text("error")), (401, "invalid_client"), "{user}");
        assert!(answer.header("www-authenticate").starts_with("Basic "));
    }
    for header in ["Basic", "Basic !", &format!("Basic {}", STANDARD.encode("no colon"))] {
        assert_eq!(house.post("/oauth/token", &[grant], &[("authorization", header)]).await.status, 401, "{header}");
    }
}

#[actix_web::test]
async fn a_lockdown_is_503_and_operators_pass() {
    let house = house().await;
    let signed_in = house.login(by("ben")).await;
    let lockdown = NewLockdown { tenant: None, retry_after_s: 77, until: None };
    house.bench.does([Operation::SetLockdown(Some(lockdown))]).await;
    house.controls.reload(Kind::Lockdown).await.unwrap();
    let answer = house.login(by("ben")).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "77"));
    assert_eq!(house.login(json!({"username": "ben", "password": "wrong"})).await.status, 401);
    assert_eq!(house.login(by("ada")).await.status, 200);
    let answer = house.refresh(signed_in.text("refresh_token")).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "77"));
    assert_eq!(house.introspect("x", &basic("checker", "secret of checker")).await.status, 503);
}

#[actix_web::test]
async fn a_logout_ends_the_session_of_a_stale_token_too() {
    let house = house().await;
    let signed_in = house.login(by("ben")).await;
    let token = signed_in.text("access_token");
    house.bench.grant("ben", "invoices:pay", None).await;
    assert!(house.gate.caller(token).await.is_err(), "it is stale");
    let logout = || TestRequest::post().uri("/v1/logout");
    let bearer = ("authorization", format!("Bearer {token}"));
    let answer = house.ask(logout().insert_header(bearer.clone())).await;
    assert_eq!((answer.status.as_u16(), &answer.body), (204, &Value::Null));
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(house.refresh(signed_in.text("refresh_token")).await.status, 400);
    let again = house.ask(logout().insert_header(bearer)).await;
    assert_eq!(again.status, 401);
    assert!(again.header("www-authenticate").contains("session ended"));
    assert_eq!(house.ask(logout()).await.status, 401);
    assert_eq!(house.ask(logout().insert_header(("authorization", "Bearer x"))).await.status, 401);
}

#[actix_web::test]
async fn a_page_whose_token_is_gone_logs_out_by_its_cookie() {
    let house = house().await;
    let mut body = by("ben");
    body["cookie"] = json!(true);
    let sent = cookie(&house.login(body).await);
    let logout = |origin: &'static str| {
        let request = TestRequest::post().uri("/v1/logout").insert_header(("host", HOST));
        request.insert_header(("cookie", sent.clone())).insert_header(("origin", origin))
    };
    assert_eq!(house.ask(logout("https://evil.example")).await.status, 401);
    assert_eq!(house.refresh(sent.trim_start_matches("permcast=")).await.status, 200);
    assert_eq!(house.ask(logout(ISSUER)).await.status, 204);
    assert_eq!(house.refresh(sent.trim_start_matches("permcast=")).await.status, 400);
}

#[actix_web::test]
async fn either_token_can_be_revoked_by_its_holder() {
    let house = house().await;
    for member in ["access_token", "refresh_token"] {
        let signed_in = house.login(by("ben")).await;
        let answer = house.post("/oauth/revoke", &[("token", signed_in.text(member))], &[]).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &Value::Null));
        assert_eq!(house.refresh(signed_in.text("refresh_token")).await.status, 400, "{member}");
        assert!(house.gate.caller(signed_in.text("access_token")).await.is_err(), "{member}");
    }
    assert_eq!(house.post("/oauth/revoke", &[("token", "garbage")], &[]).await.status, 200);
    assert_eq!(house.post("/oauth/revoke", &[], &[]).await.status, 400);
}

#[actix_web::test]
async fn introspection_tells_what_is_so_now_to_those_who_may_ask() {
    let house = house().await;
    let signed_in = house.login(by("ben")).await;
    let token = signed_in.text("access_token");
    let checker = basic("checker", "secret of checker");
    let answer = house.introspect(token, &checker).await;
    assert_eq!(answer.status, 200);
    for (member, value) in [
        ("active", json!(true)),
        ("sub", json!("default/ben")),
        ("tenant", json!("default")),
        ("stale", json!(false)),
        ("roles", json!([])),
        ("permissions", json!(["invoices:read"])),
        ("iss", json!(ISSUER)),
        ("pv", json!(house.bench.applied.version())),
    ] {
        assert_eq!(answer.body[member], value, "{member}");
    }
    house.bench.grant("ben", "invoices:pay", None).await;
    let stale = house.introspect(token, &checker).await.body;
    assert_eq!((&stale["active"], &stale["stale"]), (&json!(true), &json!(true)));
    assert_eq!(stale["permissions"], json!(["invoices:pay", "invoices:read"]), "current ones");
    let inactive = json!({"active": false});
    // A stranger learns nothing, whatever he asks about.
    assert_eq!(house.introspect(token, &basic("robot", "secret of robot")).await.body, inactive);
    let robot = [("grant_type", "client_credentials"), ("client_id", "robot"), ("client_secret", "secret of robot")];
    let robots = house.post("/oauth/token", &robot, &[]).await;
    let bearer = format!("Bearer {}", robots.text("access_token"));
    assert_eq!(house.introspect(token, &bearer).await.body, inactive);
    let ada = house.login(by("ada")).await;
    let bearer = format!("Bearer {}", ada.text("access_token"));
    assert_eq!(house.introspect(token, &bearer).await.body["active"], true, "operators may");
    for bad in ["garbage", signed_in.text("refresh_token")] {
        assert_eq!(house.introspect(bad, &checker).await.body, inactive);
    }
    house.post("/oauth/revoke", &[("token", token)], &[]).await;
    assert_eq!(house.introspect(token, &checker).await.body, inactive, "ended is not active");
    for caller in ["", "Bearer x", &basic("checker", "wrong")] {
        let refused = house.introspect(token, caller).await;
        assert_eq!((refused.status.as_u16(), refused.text("error")), (401, "invalid_client"), "{caller}");
    }
}

#[actix_web::test]
async fn another_tenants_checker_learns_nothing() {
    let house = house().await;
    let token = house.login(by("ben")).await.text("access_token").to_owned();
    house.bench.tenant_with_checker("acme", "spy").await;
    let form = [("token", &*token), ("client_id", "spy"), ("client_secret", "secret of spy"), ("tenant", "acme")];
    assert_eq!(house.post("/oauth/introspect", &form, &[]).await.body, json!({"active": false}));
}

#[actix_web::test]
async fn verifiers_and_clients_discover_what_they_need() {
    let house = house().await;
    let jwks = house.get("/.well-known/jwks.json").await;
    assert_eq!(jwks.body["keys"].as_array().unwrap().len(), 2);
    assert_eq!(jwks.header("content-type"), "application/json");
    assert!(jwks.header("cache-control").contains("max-age="));
    let metadata = house.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata.text("issuer"), ISSUER);
    assert_eq!(metadata.text("token_endpoint"), format!("{ISSUER}/oauth/token"));
    assert_eq!(metadata.text("jwks_uri"), format!("{ISSUER}/.well-known/jwks.json"));
}

#[test]
fn a_cookie_over_https_is_bound_to_its_host() {
    let over = |issuer: &str| super::cookie::Cookie::new(issuer, Duration::from_mins(1)).set("x");
    assert_eq!(over("https://id.example"), "__Host-permcast=x; Max-Age=60; Path=/; HttpOnly; SameSite=Strict; Secure");
    assert_eq!(over("http://localhost:8080"), "permcast=x; Max-Age=60; Path=/; HttpOnly; SameSite=Strict");
}
