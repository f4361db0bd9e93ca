use super::*;
use crate::domain::{Grant, UserId};
use proptest::prelude::*;
use serde_json::json;

fn faults(problem: &Problem) -> Vec<String> {
    problem.errors().iter().map(|fault| fault.pointer.clone()).collect()
}

#[test]
fn what_is_no_json_is_not_well_formed() {
    for bad in ["{", "{}x", "[1,]", "nul", "\"\\ud800\"", "1e999", r#"{"a":1,"a":2}"#, r#"[{"b":{"a":1,"a":1}}]"#] {
        assert_eq!(parse(bad.as_bytes()).unwrap_err().kind(), ProblemType::Malformed, "{bad}");
    }
    assert!(parse(&[b'"', 0xff, b'"']).is_err());
    assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    assert_eq!(parse(br#" {"a":[1,-2,0.5,null,true,"x"]} "#).unwrap(), json!({"a": [1, -2, 0.5, null, true, "x"]}));
}

#[test]
fn all_faults_are_told_with_their_pointers() {
    let mut body = Object::body(Some(json!({"id": "@", "list": ["a", 1, "B"], "a/b~c": 1})));
    let id = body.required::<UserId>("id");
    let list = body.optional::<Vec<Grant>>("list");
    let name = body.required::<String>("name");
    assert!(list.is_none());
    let problem = body.finish(id.zip(name)).unwrap_err();
    assert_eq!(problem.kind(), ProblemType::Invalid);
    assert_eq!(faults(&problem), ["/id", "/list/1", "/list/2", "/name", "/a~1b~0c"]);
}

#[test]
fn absent_and_null_are_two_things() {
    let mut body = Object::body(Some(json!({"a": null, "b": "x", "c": null})));
    assert_eq!(body.nullable::<String>("a"), Some(None));
    assert_eq!(body.nullable::<String>("b"), Some(Some("x".into())));
    assert_eq!(body.nullable::<String>("d"), None);
    assert_eq!(body.optional::<String>("c"), None);
    assert_eq!(faults(&body.finish(Some(())).unwrap_err()), ["/c"]);
}

#[test]
fn a_body_is_an_object() {
    for bad in [json!(null), json!([]), json!("x"), json!(1)] {
        assert_eq!(faults(&Object::body(Some(bad)).finish(Some(())).unwrap_err()), [""]);
    }
    assert!(Object::body(None).finish(Some(())).is_ok());
}

#[actix_web::test]
async fn a_body_that_never_ends_is_not_waited_for() {
    tokio::time::pause();
    let request = actix_web::test::TestRequest::post().to_http_request();
    let never: Pin<Box<dyn futures_util::Stream<Item = _>>> = Box::pin(futures_util::stream::pending());
    let payload = dev::Payload::Stream { payload: never };
    let problem = read_bytes(&request, payload, BODY_BYTES_MAX).await.unwrap_err();
    assert_eq!(actix_web::ResponseError::status_code(&problem), StatusCode::REQUEST_TIMEOUT);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn what_serde_writes_is_read_back(text in "\\PC*", number in any::<i64>()) {
        let value = json!({"text": text, "list": [number, null]});
        prop_assert_eq!(parse(value.to_string().as_bytes()).unwrap(), value);
    }
}
