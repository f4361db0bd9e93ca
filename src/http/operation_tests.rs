use super::*;
use crate::protocol::problem::ProblemType;
use proptest::prelude::*;
use serde_json::json;

fn read(verb: Verb, path: &str, body: Value) -> Result<Operation, Problem> {
    let segments = segments(path).unwrap();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let body = (!body.is_null()).then_some(body);
    let now = Timestamp::from_millis(1_000_000);
    parse(verb, &TenantName::first(), &segments, body, now, Place::REQUEST).map(|draft| draft.operation)
}

fn kind(verb: Verb, path: &str, body: Value) -> ProblemType {
    read(verb, path, body).unwrap_err().kind()
}

#[test]
fn a_path_names_one_operation() {
    let grant = read(Verb::Put, "users/auth0%7C5f/roles/editor", json!({"expires_at": "2031-01-01T00:00:00Z"}));
    assert!(matches!(
        grant.unwrap(),
        Operation::GrantRole { user, role, expires_at: Some(_), .. } if user.as_str() == "auth0|5f" && role.as_str() == "editor"
    ));
    assert!(matches!(
        read(Verb::Put, "roles/editor/permissions/invoices:%2A", Value::Null).unwrap(),
        Operation::AddRolePermission { permission, .. } if permission.as_str() == "invoices:*"
    ));
    assert!(matches!(read(Verb::Delete, "users/ben/sessions", json!({})).unwrap(), Operation::EndSessions { .. }));
}

#[test]
fn what_cannot_be_a_name_names_nothing() {
    assert_eq!(kind(Verb::Delete, "users/a%2Fb", Value::Null), ProblemType::UnknownUser);
    assert_eq!(kind(Verb::Put, "users/ben/roles/NO", Value::Null), ProblemType::UnknownRole);
    assert_eq!(kind(Verb::Delete, "users/ben/sessions/x", Value::Null), ProblemType::UnknownSession);
    assert_eq!(kind(Verb::Put, "users/ben/permissions/a::b", Value::Null), ProblemType::Invalid);
    assert!(segments("users/%ff").is_none());
}

#[test]
fn a_body_follows_its_rules() {
    for bad in [
        json!({"expires_at": "tomorrow"}),
        json!({"expires_at": "1970-01-01T00:00:01Z"}),
        json!({"until": null}),
        json!([]),
    ] {
        assert_eq!(kind(Verb::Put, "users/ben/roles/editor", bad.clone()), ProblemType::Invalid, "{bad}");
    }
    assert_eq!(kind(Verb::Delete, "users/ben", json!({"really": true})), ProblemType::Invalid);
    assert_eq!(kind(Verb::Post, "users", json!({})), ProblemType::Invalid);
    assert_eq!(kind(Verb::Patch, "users/ben", json!({"id": "cleo"})), ProblemType::Invalid);
    assert_eq!(kind(Verb::Patch, "roles/r", json!({"permissions": "all"})), ProblemType::Invalid);
    assert!(read(Verb::Patch, "users/ben", json!({"id": "ben", "email": null})).is_ok());
}

#[test]
fn an_email_is_kept_in_lower_case() {
    let made = read(Verb::Post, "users", json!({"id": "ben", "email": "Ben@Example.COM"})).unwrap();
    assert!(matches!(made, Operation::CreateUser { user, .. } if user.email.as_deref() == Some("ben@example.com")));
    for bad in ["ben", "@x", "x@", "a@b@c", "a b@c"] {
        assert_eq!(kind(Verb::Post, "users", json!({"id": "ben", "email": bad})), ProblemType::Invalid, "{bad}");
    }
}

#[test]
fn a_password_is_not_shown() {
    let body = json!({"id": "ben", "password": "correct horse"});
    let draft = users::create(TenantName::first(), Object::body(Some(body))).unwrap();
    assert!(!format!("{draft:?}").contains("horse"));
}

proptest! {
    #[test]
    fn any_path_is_read_or_refused(path in "[a-z%/:*\\PC]{0,60}", body in "\\PC{0,20}") {
        for verb in [Verb::Put, Verb::Post, Verb::Patch, Verb::Delete] {
            if let Some(segments) = segments(&path) {
                let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
                let _ = parse(verb, &TenantName::first(), &segments, Some(json!({ "id": body })),
                    Timestamp::from_millis(0), Place::BATCH);
            }
        }
    }
}
