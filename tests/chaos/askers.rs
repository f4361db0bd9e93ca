//! Those who ask all the time who may do what.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::database::{PERMISSIONS, permissions_of};
use super::history::{Decision, Said, Set, number, permission_name, user_name};
use super::people::{Person, Token};
use super::rng::Rng;
use super::world::{Answer, USERS, World};

/// Between two questions of one who asks, in milliseconds.
const PAUSE: u64 = 12;

/// Asks one replica about everybody, until he is told to stop.
pub(crate) async fn checker(world: Arc<World>, replica: usize, mut rng: Rng, stop: CancellationToken) {
    let person = Person::new(format!("c{replica}"));
    while !stop.is_cancelled() {
        world.pause(&mut rng, PAUSE).await;
        let Some(token) = person.token(&world, replica).await else { continue };
        let about = u8::try_from(rng.below(u64::from(USERS))).expect("there are few");
        let asked = (0..=rng.below(4)).map(|_| u8::try_from(rng.below(u64::from(PERMISSIONS))).expect("there are few"));
        let asked = asked.fold(Set::default(), Set::with);
        let begun = world.now();
        let body = questions(about, asked);
        let path = "/access/v1/evaluations";
        let Ok(answer) = world.ask(replica, Method::POST, path, Some(&token.text), Some(&body)).await else {
            continue;
        };
        match answer.status {
            200 => {
                let evaluations = answer.body["evaluations"].as_array().map(Vec::as_slice).unwrap_or_default();
                let yes = asked.iter().zip(evaluations).filter(|(_, evaluation)| evaluation["decision"] == true);
                let allowed = yes.fold(Set::default(), |allowed, (permission, _)| allowed.with(permission));
                let pv = evaluations.first().and_then(|evaluation| evaluation["context"]["pv"].as_str());
                note(&world, (replica, begun), &token, about, Said::Each { asked, allowed }, pv);
            }
            401 => drop(person.renew(&world, replica, &token, None).await),
            _ => {}
        }
    }
}

fn questions(about: u8, asked: Set) -> Value {
    let question = |permission| {
        let name = permission_name(permission);
        let (resource, action) = name.split_once(':').expect("it has two segments");
        json!({"resource": {"type": resource}, "action": {"name": action}})
    };
    let all: Vec<_> = asked.iter().map(question).collect();
    json!({"subject": {"type": "user", "id": user_name(about)}, "evaluations": all})
}

/// Users who show their tokens to one replica, old ones among them, until they are told to stop.
pub(crate) async fn bearers(
    world: Arc<World>,
    people: Arc<Vec<Person>>,
    replica: usize,
    mut rng: Rng,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        world.pause(&mut rng, PAUSE).await;
        let about = rng.index(people.len());
        let person = &people[about];
        let about = u8::try_from(about).expect("there are few");
        let former = if rng.once_in(3) { person.former(rng.index(3)) } else { None };
        let is_former = former.is_some();
        let token = match former {
            Some(token) => token,
            None => match person.token(&world, replica).await {
                Some(token) => token,
                None => continue,
            },
        };
        let status = if rng.once_in(3) {
            let permission = u8::try_from(rng.below(u64::from(PERMISSIONS))).expect("there are few");
            passes(&world, replica, &token, about, permission).await
        } else {
            is(&world, replica, &token, about).await
        };
        if status == Some(401) && !is_former {
            person.renew(&world, replica, &token, None).await;
        }
    }
}

async fn is(world: &World, replica: usize, token: &Token, about: u8) -> Option<u16> {
    let begun = world.now();
    let answer = world.ask(replica, Method::GET, "/v1/me", Some(&token.text), None).await.ok()?;
    if answer.status == 200 {
        let roles: Vec<String> = names(&answer, "roles");
        let roles = roles.iter().filter_map(|name| number(name)).fold(Set::default(), Set::with);
        let permissions = permissions_of(&names(&answer, "permissions")).unwrap_or(Set(u32::MAX));
        note(world, (replica, begun), token, about, Said::All { roles, permissions }, answer.body["pv"].as_str());
    }
    Some(answer.status)
}

fn names(answer: &Answer, list: &str) -> Vec<String> {
    serde_json::from_value(answer.body[list].clone()).unwrap_or_default()
}

async fn passes(world: &World, replica: usize, token: &Token, about: u8, permission: u8) -> Option<u16> {
    let begun = world.now();
    let path = format!("/v1/forward-auth?require={}", permission_name(permission));
    let answer = world.ask(replica, Method::GET, &path, Some(&token.text), None).await.ok()?;
    let asked = Set::of(&[permission]);
    let allowed = match answer.status {
        200 => asked,
        403 => Set::default(),
        other => return Some(other),
    };
    note(world, (replica, begun), token, about, Said::Each { asked, allowed }, answer.version.as_deref());
    Some(answer.status)
}

fn note(
    world: &World,
    (replica, begun): (usize, Duration),
    token: &Token,
    about: u8,
    said: Said,
    version: Option<&str>,
) {
    let (ended, pv) = (world.now(), version.and_then(|version| world.seq(version)));
    let decision = Decision { replica, begun, ended, ticket: Arc::clone(&token.ticket), about, said, pv };
    world.note(|history| history.decisions.push(decision));
}
