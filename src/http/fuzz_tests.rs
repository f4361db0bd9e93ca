//! Whatever comes in: no answer is a 5xx, and each above 399 is a problem or an OAuth error.

use actix_web::body::MessageBody as _;
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::test::{TestRequest, call_service, init_service, try_read_body_json};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::house::House;

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("default".to_owned()),
        Just("ben".to_owned()),
        Just("viewer".to_owned()),
        Just("invoices:read".to_owned()),
        Just("a%2Fb".to_owned()),
        Just("%00".to_owned()),
        Just("%ff%fe".to_owned()),
        Just("%".to_owned()),
        Just("..".to_owned()),
        "[a-zA-Z0-9._~!$&'()*+,;=:@|-]{1,150}".prop_map(|text| text.replace('|', "%7C")),
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        prop_oneof![Just("ben"), Just("active"), Just("put"), Just("users/ben"), Just("2099-01-01T00:00:00Z")]
            .prop_map(Value::from),
        Just(json!("\u{0}\n\u{feff}")),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        let name = prop_oneof![
            prop_oneof![
                Just("id"),
                Just("name"),
                Just("email"),
                Just("password"),
                Just("permissions"),
                Just("includes")
            ],
            prop_oneof![Just("operations"), Just("op"), Just("path"), Just("body"), Just("subject"), Just("resource")],
            prop_oneof![Just("action"), Just("type"), Just("expires_at"), Just("status"), Just("identities")],
            prop_oneof![Just("evaluations"), Just("options"), Just("enabled"), Just("tenant"), Just("revoke")],
            prop_oneof![Just("username"), Just("cookie"), Just("issuer"), Just("~/")],
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => Just(Vec::new()),
        6 => json_value().prop_map(|value| value.to_string().into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..64),
        1 => "(grant_type|token|refresh_token|scope)=[a-z%&=+]{0,30}".prop_map(String::into_bytes),
    ]
}

fn headers() -> impl Strategy<Value = Vec<(HeaderName, HeaderValue)>> {
    let name = proptest::sample::select(vec![
        "accept",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "if-none-match",
        "last-event-id",
        "origin",
        "permcast-at-least",
        "prefer",
        "range",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "upgrade",
        "connection",
        "x-forwarded-for",
        "x-request-id",
        "access-control-request-method",
    ]);
    let value = prop_oneof![
        proptest::collection::vec(prop_oneof![32u8..127, 128u8..=255], 0..40),
        proptest::sample::select(vec![
            "wait=0",
            "wait=-1",
            "abcd2345.7",
            "0",
            "*",
            "\"x\"",
            "websocket",
            "upgrade",
            "application/json",
            "application/x-www-form-urlencoded",
            "permcast.v1, bearer.x",
            "13",
            "gzip",
            "10.0.0.1"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    proptest::collection::vec((name, value), 0..5).prop_map(|headers| {
        let parse = |(name, value): (&'static str, Vec<u8>)| {
            Some((HeaderName::from_static(name), HeaderValue::from_bytes(&value).ok()?))
        };
        headers.into_iter().filter_map(parse).collect()
    })
}

#[actix_web::test]
async fn no_input_makes_a_5xx() {
    let house = House::new().await;
    let app = init_service(house.app()).await;
    let mut runner = TestRunner::new(Config::default());
    let mut draw = |method: Method, path: &str| {
        let mut filled = path.to_owned();
        while let (Some(begin), Some(end)) = (filled.find('{'), filled.find('}')) {
            let segment = segment().new_tree(&mut runner).unwrap().current();
            filled.replace_range(begin..=end, &segment);
        }
        let query = "(\\?(limit|cursor|after|require)=[a-zA-Z0-9%&=:*_.-]{0,20})?".new_tree_text(&mut runner);
        let json = prop::bool::weighted(0.8).new_tree(&mut runner).unwrap().current();
        let body = body().new_tree(&mut runner).unwrap().current();
        let headers = headers().new_tree(&mut runner).unwrap().current();
        (method, filled + &query, json, body, headers)
    };
    let mut token = house.sign_in("root").await;
    for (path, method) in super::routes().list() {
        for round in 0..24 {
            let (method, path, json, body, headers) = draw(method.clone(), path);
            let mut request = TestRequest::default().method(method.clone()).peer_addr("192.0.2.1:1".parse().unwrap());
            let Ok(uri) = path.parse::<actix_web::http::Uri>() else { continue };
            request = request.uri(&uri.to_string());
            if round % 6 != 0 {
                request = request.insert_header(("Authorization", format!("Bearer {token}")));
            }
            if json {
                request = request.insert_header(("Content-Type", "application/json"));
            }
            for header in &headers {
                request = request.append_header(header.clone());
            }
            let shown = format!("{method} {path} {headers:?} {}", String::from_utf8_lossy(&body));
            let answer = call_service(&app, request.set_payload(body).to_request()).await;
            let status = answer.status().as_u16();
            assert!(status < 500, "{status} {shown}");
            if status == 401 {
                // It may have revoked the keys or made its own token stale.
                token = house.sign_in("root").await;
            }
            if status >= 400 && matches!(answer.response().body().size(), actix_web::body::BodySize::Sized(1..)) {
                let body: Value = try_read_body_json(answer).await.expect(&shown);
                assert!(body["type"].is_string() || body["error"].is_string(), "{body} {shown}");
            }
        }
    }
}

trait NewTreeText {
    fn new_tree_text(&self, runner: &mut TestRunner) -> String;
}

impl NewTreeText for str {
    /// A text that matches this regular expression.
    fn new_tree_text(&self, runner: &mut TestRunner) -> String {
        proptest::string::string_regex(self).unwrap().new_tree(runner).unwrap().current()
    }
}
