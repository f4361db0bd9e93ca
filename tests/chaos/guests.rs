//! Guests: users who are given a permission for a few seconds at a time, by hosts of their own, and watched at its end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::checker::{Bounds, Broken, Verdict};
use super::history::{Admission, History, Visit, guest_name};
use super::people::Person;
use super::rng::Rng;
use super::world::{REPLICAS, World};

pub(crate) const GUESTS: usize = 3;
const PERMISSION: &str = "lounge:enter";
/// Longest pause between two questions, in milliseconds.
const PAUSE: u64 = 40;
/// So long after the end it is still asked. Above the bound, and what comes between the first and the last answer.
const AFTERWARDS: Duration = Duration::from_secs(3);

pub(crate) fn host_name(number: usize) -> String {
    format!("h{number}")
}

/// One visit after another, until he is told to stop.
pub(crate) async fn host(world: Arc<World>, number: usize, mut rng: Rng, stop: CancellationToken) {
    let (host, guest) = (Person::new(host_name(number)), guest_name(number));
    let path = format!("/v1/tenants/default/users/{guest}/permissions/{PERMISSION}");
    while !stop.is_cancelled() {
        world.pause(&mut rng, PAUSE).await;
        let replica = rng.index(REPLICAS);
        let Some(token) = host.token(&world, replica).await else { continue };
        let (begun, stay) = (world.now(), Duration::from_millis(500 + rng.below(3500)));
        let over = humantime::format_rfc3339_millis(SystemTime::now() + stay).to_string();
        let body = json!({"expires_at": over});
        let answer = world.ask(replica, Method::PUT, &path, Some(&token.text), Some(&body)).await;
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        // It may have been heard.
        let until = begun + stay;
        world.note(|history| history.visits.push(Visit { guest: guest.clone(), begun, until }));
        if status == 401 {
            host.renew(&world, replica, &token, None).await;
        }
        while world.now() < until + AFTERWARDS && !stop.is_cancelled() {
            world.pause(&mut rng, PAUSE).await;
            asks(&world, &host, &guest, rng.index(REPLICAS)).await;
        }
    }
}

async fn asks(world: &World, host: &Person, guest: &str, replica: usize) {
    let Some(token) = host.token(world, replica).await else { return };
    let (resource, action) = PERMISSION.split_once(':').expect("it has two segments");
    let question = json!({"subject": {"type": "user", "id": guest}, "resource": {"type": resource},
        "action": {"name": action}});
    let begun = world.now();
    let asked = world.ask(replica, Method::POST, "/access/v1/evaluation", Some(&token.text), Some(&question)).await;
    let Ok(answer) = asked else { return };
    if answer.status == 401 {
        host.renew(world, replica, &token, None).await;
    }
    if answer.status == 200 {
        let ended = world.now();
        let yes = answer.body["decision"] == true;
        world.note(|history| {
            history.asked_about_guests += 1;
            if yes {
                history.admissions.push(Admission { guest: guest.to_owned(), replica, begun, ended });
            }
        });
    }
}

/// Nobody is let in longer than the bound after his time, nor before it.
pub(crate) fn check(history: &History, bounds: &Bounds, verdict: &mut Verdict) {
    for admission in &history.admissions {
        let own = history.visits.iter().filter(|visit| visit.guest == admission.guest);
        let begun = own.filter(|visit| visit.begun <= admission.ended);
        let over = begun.map(|visit| admission.begun.saturating_sub(visit.until)).min();
        match over {
            Some(over) if over <= bounds.staleness => verdict.longest_overstay = verdict.longest_overstay.max(over),
            _ => {
                let Admission { guest, replica, begun, .. } = admission;
                let account =
                    format!("replica {replica} let {guest} in at {begun:?}, {over:?} after the end of his visit");
                verdict.add(Broken::Overstayed, admission.ended, account);
            }
        }
    }
}
