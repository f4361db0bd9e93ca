//! Those who change permissions: administrators through REST on any replica, and one with a SQL shell.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::database::{PERMISSIONS, statement};
use super::history::{Effect, Operation, Outcome, Set, permission_name, role_name, user_name};
use super::people::Person;
use super::rng::Rng;
use super::world::{Lost, REPLICAS, ROLES, USERS, World};

/// Longest pause between two operations of one writer, in milliseconds.
const PAUSE: u64 = 40;
const SHELL_PAUSE: u64 = 600;

fn small(rng: &mut Rng, end: u8) -> u8 {
    u8::try_from(rng.below(u64::from(end))).expect("it is below a small number")
}

/// One effect on what somebody has, as frequent as it is in life: seldom on many.
fn effect(rng: &mut Rng) -> Effect {
    let (user, role, permission) = (small(rng, USERS), small(rng, ROLES), small(rng, PERMISSIONS));
    let other = small(rng, ROLES);
    match rng.below(100) {
        0..22 => Effect::Grant { user, permission },
        22..42 => Effect::Revoke { user, permission },
        42..54 => Effect::Join { user, role },
        54..66 => Effect::Leave { user, role },
        66..72 => Effect::Add { role, permission },
        72..80 => Effect::Remove { role, permission },
        // Upwards only, so that there is never a circle.
        80..84 if role != other => Effect::Include { role: role.min(other), other: role.max(other) },
        84..90 if role != other => Effect::Exclude { role: role.min(other), other: role.max(other) },
        90..92 => Effect::Edit { role, permissions: Set::of(&[permission, (permission + 5) % PERMISSIONS]) },
        92 => Effect::Drop { role },
        93..95 => Effect::Make { role, permissions: Set::of(&[role, permission]) },
        95..97 => Effect::Suspend { user },
        _ => Effect::Activate { user },
    }
}

/// What one operation does.
fn effects(rng: &mut Rng) -> Vec<Effect> {
    match rng.below(600) {
        0 => vec![Effect::RevokeKeys { sessions: rng.once_in(3) }],
        1..4 => vec![Effect::Rotate],
        4..12 => vec![Effect::SignOut { user: small(rng, USERS) }],
        12..90 => (0..2 + rng.below(4)).map(|_| effect(rng)).collect(),
        _ => vec![effect(rng)],
    }
}

/// An effect as a request: the method, the path below the tenant, the body.
fn request(effect: &Effect) -> (Method, String, Option<Value>) {
    let user = user_name;
    let role = role_name;
    let permission = permission_name;
    let names = |set: Set| set.iter().map(permission_name).collect::<Vec<_>>();
    let status =
        |who: u8, status: &str| (Method::PATCH, format!("users/{}", user(who)), Some(json!({"status": status})));
    match *effect {
        Effect::Grant { user: who, permission: p } => {
            (Method::PUT, format!("users/{}/permissions/{}", user(who), permission(p)), None)
        }
        Effect::Revoke { user: who, permission: p } => {
            (Method::DELETE, format!("users/{}/permissions/{}", user(who), permission(p)), None)
        }
        Effect::Join { user: who, role: of } => (Method::PUT, format!("users/{}/roles/{}", user(who), role(of)), None),
        Effect::Leave { user: who, role: of } => {
            (Method::DELETE, format!("users/{}/roles/{}", user(who), role(of)), None)
        }
        Effect::Add { role: of, permission: p } => {
            (Method::PUT, format!("roles/{}/permissions/{}", role(of), permission(p)), None)
        }
        Effect::Remove { role: of, permission: p } => {
            (Method::DELETE, format!("roles/{}/permissions/{}", role(of), permission(p)), None)
        }
        Effect::Include { role: of, other } => {
            (Method::PUT, format!("roles/{}/includes/{}", role(of), role(other)), None)
        }
        Effect::Exclude { role: of, other } => {
            (Method::DELETE, format!("roles/{}/includes/{}", role(of), role(other)), None)
        }
        Effect::Edit { role: of, permissions } => {
            (Method::PATCH, format!("roles/{}", role(of)), Some(json!({"permissions": names(permissions)})))
        }
        Effect::Make { role: of, permissions } => {
            let body = json!({"name": role(of), "permissions": names(permissions)});
            (Method::POST, "roles".to_owned(), Some(body))
        }
        Effect::Drop { role: of } => (Method::DELETE, format!("roles/{}", role(of)), None),
        Effect::Activate { user: who } => status(who, "active"),
        Effect::Suspend { user: who } => status(who, "suspended"),
        Effect::SignOut { user: who } => (Method::DELETE, format!("users/{}/sessions", user(who)), None),
        Effect::EndSession { .. } | Effect::Rotate | Effect::RevokeKeys { .. } | Effect::SignOutAll => {
            unreachable!("not below a user or a role")
        }
    }
}

/// The whole operation as one request.
fn whole(effects: &[Effect]) -> (Method, String, Option<Value>) {
    const TENANT: &str = "/v1/tenants/default";
    match effects {
        [Effect::Rotate] => (Method::POST, "/v1/keys/rotate".to_owned(), Some(json!({}))),
        [Effect::RevokeKeys { sessions }] => {
            (Method::POST, "/v1/keys/rotate".to_owned(), Some(json!({"revoke": true, "sessions": sessions})))
        }
        [one] => {
            let (method, path, body) = request(one);
            (method, format!("{TENANT}/{path}"), body)
        }
        many => {
            let operation = |effect| {
                let (method, path, body) = request(effect);
                let mut operation = json!({"op": method.as_str().to_lowercase(), "path": path});
                if let Some(body) = body {
                    operation["body"] = body;
                }
                operation
            };
            let operations: Vec<_> = many.iter().map(operation).collect();
            (Method::POST, format!("{TENANT}/batch"), Some(json!({"operations": operations})))
        }
    }
}

/// Writes until it is told to stop. Whoever got no answer is never heard of again; another takes his place.
pub(crate) async fn administrator(world: Arc<World>, mut rng: Rng, stop: CancellationToken) {
    let mut person = Person::new(world.next_actor());
    while !stop.is_cancelled() {
        world.pause(&mut rng, PAUSE).await;
        let (replica, effects) = (rng.index(REPLICAS), effects(&mut rng));
        let Some(token) = person.token(&world, replica).await else { continue };
        let (method, path, body) = whole(&effects);
        let begun = world.now();
        let answer = world.ask(replica, method, &path, Some(&token.text), body.as_ref()).await;
        let outcome = match &answer {
            Ok(answer) if answer.status < 300 => Outcome::Done(answer.body["change"]["seq"].as_u64()),
            // What is said of it: nothing was done.
            Ok(answer) if answer.status < 500 || answer.status == 503 => Outcome::Refused,
            Err(Lost::Unsent) => Outcome::Refused,
            _ => Outcome::Unknown,
        };
        let actor = format!("default/{}", person.name);
        let operation = Operation { actor, effects, begun, ended: world.now(), outcome };
        world.note(|history| history.operations.push(operation));
        if outcome == Outcome::Unknown {
            person = Person::new(world.next_actor());
        } else if answer.is_ok_and(|answer| answer.status == 401) {
            person.renew(&world, replica, &token, None).await;
        }
    }
}

/// Edits rows past every replica.
pub(crate) async fn shell(world: Arc<World>, mut rng: Rng, stop: CancellationToken) {
    while !stop.is_cancelled() {
        world.pause(&mut rng, SHELL_PAUSE).await;
        let effects: Vec<Effect> = match rng.below(60) {
            0 => vec![Effect::SignOutAll],
            1..4 => vec![Effect::SignOut { user: small(&mut rng, USERS) }],
            _ => (0..=rng.below(3)).map(|_| effect(&mut rng)).collect(),
        };
        let statements: Option<Vec<String>> = effects.iter().map(statement).collect();
        let Some(statements) = statements else { continue };
        let begun = world.now();
        let outcome = match world.database.write(&statements.join("; ")).await {
            Some((before, after)) => Outcome::Done((after > before).then_some(after)),
            None => Outcome::Refused,
        };
        let operation = Operation { actor: "sql".to_owned(), effects, begun, ended: world.now(), outcome };
        world.note(|history| history.operations.push(operation));
    }
}
