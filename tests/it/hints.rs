//! Faults of single messages: lost, doubled, out of order, late, damaged, forged. They are hints, so the worst that any of
//! them does is nothing.

use std::time::Duration;

use async_nats::HeaderMap;
use permcast::domain::{Change, Effect, Seq, Target, Timestamp, Version};
use permcast::protocol::bus::{ChangesMessage, ReplicaMessage, SEAL_HEADER, Sealer};
use serde_json::json;

use crate::client::seq;
use crate::harness::{Cluster, until};
use crate::proxy::{Fate, Proxy, Way};
use crate::wire::Wired;
use crate::witness::Witness;

/// Here only messages bring a change soon: a poll comes late, though within the bound.
const BY_MESSAGE_ALONE: &[(&str, &str)] = &[("PERMCAST_POLL_INTERVAL", "8s"), ("PERMCAST_MAX_STALENESS", "16s")];

fn hint(subject: &str) -> bool {
    subject.contains(".changes.")
}

/// Lets the first `count` hints have this fate, and the rest pass.
fn first(count: usize, fate: Fate) -> impl FnMut(&str) -> Fate {
    let mut left = count;
    move |subject| {
        if hint(subject) && left > 0 {
            left -= 1;
            return fate;
        }
        Fate::Pass
    }
}

/// Waits until so many hints are held.
async fn held(way: &Proxy, count: usize) {
    until("a message", async || (way.held(Way::Down) >= count).then_some(())).await;
}

#[tokio::test]
async fn what_is_missing_between_two_hints_is_read_at_once() {
    let wired = Wired::start(BY_MESSAGE_ALONE).await;
    let mut witness = Witness::new(&wired.cluster).await;
    // No announcement tells that there is more, either: the gap alone does.
    let mut dropped = first(2, Fate::Drop);
    wired.from_b.rule(Way::Down, move |subject| if hint(subject) { dropped(subject) } else { Fate::Drop });
    witness.turn().await;
    witness.turn().await;
    witness.change().await;
    assert!(wired.from_b.struck(Way::Down) >= 2);
}

#[tokio::test]
async fn an_announcement_makes_up_for_a_lost_hint() {
    let wired = Wired::start(BY_MESSAGE_ALONE).await;
    let mut witness = Witness::new(&wired.cluster).await;
    wired.from_b.rule(Way::Down, |subject| if hint(subject) { Fate::Drop } else { Fate::Pass });
    for _ in 0..3 {
        witness.change().await;
    }
    assert!(wired.from_b.struck(Way::Down) >= 3);
}

#[tokio::test]
async fn a_hint_that_comes_twice_is_told_once() {
    let wired = Wired::start(BY_MESSAGE_ALONE).await;
    let mut witness = Witness::new(&wired.cluster).await;
    wired.from_b.rule(Way::Down, |_| Fate::Twice);
    for _ in 0..3 {
        witness.change().await;
        witness.is_left_alone().await;
    }
}

#[tokio::test]
async fn hints_out_of_order_take_effect_as_in_order() {
    let wired = Wired::start(BY_MESSAGE_ALONE).await;
    let mut witness = Witness::new(&wired.cluster).await;
    for _ in 0..3 {
        let mut reordered = first(3, Fate::Hold);
        wired.from_b.rule(Way::Down, move |subject| if hint(subject) { reordered(subject) } else { Fate::Drop });
        witness.turn().await;
        witness.turn().await;
        let version = witness.turn().await;
        held(&wired.from_b, 3).await;
        wired.from_b.release(Way::Down, |held| held.reverse()).await;
        let took = witness.takes_effect(&version).await;
        assert!(took < crate::witness::IN_TIME, "{took:?}");
        witness.is_left_alone().await;
    }
}

#[tokio::test]
async fn a_hint_that_comes_late_touches_nobody_who_is_further() {
    let wired = Wired::start(&[]).await;
    let mut witness = Witness::new(&wired.cluster).await;
    wired.from_b.rule(Way::Down, first(2, Fate::Hold));
    for _ in 0..4 {
        witness.change().await;
    }
    held(&wired.from_b, 2).await;
    // They have aged by everything that happened meanwhile, a new session included.
    let other = witness.on_b.login("ben").await;
    wired.from_b.release(Way::Down, |_| ()).await;
    // A true one after them on the same way: when it has arrived, so have they.
    let (cleo, root) = (witness.on_b.login("cleo").await, witness.root.clone());
    let mut watching = crate::socket::Socket::hello(&witness.on_b, &cleo).await;
    let version = root.put("/v1/tenants/default/users/cleo/permissions/x").await.version();
    assert_eq!(watching.expect("permissions_changed").await["pv"], version);
    witness.is_left_alone().await;
    witness.on_b.with(&other).get("/v1/me").await.ok();
    witness.change().await;
}

#[tokio::test]
async fn a_damaged_hint_is_dropped_and_counted() {
    let wired = Wired::start(&[]).await;
    let mut witness = Witness::new(&wired.cluster).await;
    wired.from_b.rule(Way::Down, |subject| if hint(subject) { Fate::Damage } else { Fate::Pass });
    for _ in 0..3 {
        witness.change().await;
    }
    assert!(rejected(&witness, "seal").await >= 3);
}

/// How many messages replica `b` dropped for this reason.
async fn rejected(witness: &Witness, why: &str) -> u64 {
    let metrics = witness.on_b.get("/metrics").await.ok();
    let name = format!("permcast_bus_rejected_total{{why=\"{why}\"}} ");
    let text = metrics.body.as_str().unwrap().to_owned();
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

/// What an intruder has: the broker, and what he read there; or, for `sealed` with the true key, the whole database.
struct Intruder {
    nats: async_nats::Client,
    deployment: &'static str,
    sealer: Sealer,
}

impl Intruder {
    async fn new(url: &str, deployment: &'static str, key: &[u8]) -> Self {
        Self { nats: async_nats::connect(url).await.unwrap(), deployment, sealer: Sealer::new(key) }
    }

    /// That ben has changed, at this position.
    fn changes(&self, version: Version, origin: &str) -> (String, Vec<u8>) {
        self.changes_of("ben", version, origin)
    }

    fn changes_of(&self, user: &str, version: Version, origin: &str) -> (String, Vec<u8>) {
        let target = Target::User { tenant: "default".parse().unwrap(), user: user.parse().unwrap() };
        let change = Change { seq: version.seq, at: Timestamp::from_millis(0), target, effect: Effect::Changed };
        let message = ChangesMessage { epoch: version.epoch, origin: origin.to_owned(), changes: vec![change] };
        (format!("permcast.v1.{}.changes.default", self.deployment), message.encode())
    }

    async fn say(&self, subject: String, payload: Vec<u8>, seal: Option<String>) {
        let mut headers = HeaderMap::new();
        if let Some(seal) = seal {
            headers.insert(SEAL_HEADER, seal);
        }
        self.nats.publish_with_headers(subject, headers, payload.into()).await.unwrap();
        self.nats.flush().await.unwrap();
    }

    async fn say_sealed(&self, (subject, payload): (String, Vec<u8>)) {
        let seal = self.sealer.seal(&subject, &payload);
        self.say(subject, payload, Some(seal)).await;
    }
}

fn at(version: &Version, seq: u64) -> Version {
    Version { epoch: version.epoch, seq: Seq::new(seq).unwrap() }
}

/// The key that the replicas seal with, as who has the database has it.
fn seal_key(cluster: &Cluster) -> Vec<u8> {
    let hex = cluster.sql("SELECT hex(value) FROM secrets WHERE name = 'seal'");
    let bytes: Vec<u8> =
        (0..hex.trim().len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    bytes.strip_prefix(b"plain:").unwrap().to_vec()
}

#[tokio::test]
async fn what_is_forged_makes_nobody_stale() {
    let cluster = Cluster::start().await;
    let mut witness = Witness::new(&cluster).await;
    let url = cluster.nats.as_ref().unwrap().url.clone();
    let head: Version = witness.turn().await.parse().unwrap();
    witness.takes_effect(&head.to_string()).await;
    let intruder = Intruder::new(&url, "default", b"another deployment's key").await;
    for seq in [head.seq.get(), head.seq.get() + 1, 999_999_999, Seq::MAX.get()] {
        let (subject, payload) = intruder.changes(at(&head, seq), "x");
        let seal = intruder.sealer.seal(&subject, &payload);
        let (key, tag) = seal.split_once('.').unwrap();
        for seal in [
            None,
            Some(String::new()),
            Some("AAAAAAAA".to_owned()),
            Some(format!("{key}.")),
            Some(seal.clone()),
            Some(format!("{}.{tag}", "A".repeat(8))),
        ] {
            intruder.say(subject.clone(), payload.clone(), seal).await;
        }
        // That somebody is far ahead would make the replica think that its log is an old copy.
        let said = ReplicaMessage {
            id: "a".to_owned(),
            epoch: head.epoch,
            applied: Seq::new(seq).unwrap(),
            connections: 0,
            receipts: Vec::new(),
            lag_ms: Some(0),
            at: Timestamp::from_millis(4_000_000_000_000),
        };
        intruder.say_sealed(("permcast.v1.default.replicas".to_owned(), said.encode())).await;
    }
    intruder.say("permcast.v1.default.changes.default".to_owned(), b"no json".to_vec(), None).await;
    // Of the true ones only what was said on that very subject.
    let true_one = Intruder::new(&url, "default", &seal_key(&cluster)).await;
    let (subject, payload) = true_one.changes(at(&head, head.seq.get() + 1), "x");
    let elsewhere = true_one.sealer.seal("permcast.v1.default.changes.acme", &payload);
    true_one.say(subject, payload, Some(elsewhere)).await;

    until("that they were counted", async || {
        (rejected(&witness, "unsealed").await >= 5 && rejected(&witness, "seal").await >= 25).then_some(())
    })
    .await;
    witness.is_left_alone().await;
    assert_eq!(witness.ready().await.status, 200);
    for _ in 0..3 {
        witness.change().await;
    }
}

#[tokio::test]
async fn what_is_sealed_and_no_message_or_an_old_one_makes_nobody_stale() {
    let cluster = Cluster::start().await;
    let mut witness = Witness::new(&cluster).await;
    witness.change().await;
    let url = cluster.nats.as_ref().unwrap().url.clone();
    let intruder = Intruder::new(&url, "default", &seal_key(&cluster)).await;
    let subject = || "permcast.v1.default.changes.default".to_owned();
    let head: Version = witness.tokens.pv.parse().unwrap();
    for payload in ["", "no json", "{}", "[]", "null", r#"{"epoch":"","origin":"","changes":[]}"#] {
        intruder.say_sealed((subject(), payload.as_bytes().to_vec())).await;
        intruder.say_sealed(("permcast.v1.default.replicas".to_owned(), payload.as_bytes().to_vec())).await;
    }
    until("that they were counted", async || (rejected(&witness, "unreadable").await == 12).then_some(())).await;
    // A position that is applied long since speaks of nothing, whatever it says this time.
    for seq in 1..=head.seq.get() {
        intruder.say_sealed(intruder.changes(at(&head, seq), "x")).await;
    }
    // Of another epoch: the log is read, and knows better.
    let other = Version { epoch: "zzzzzzzz".parse().unwrap(), seq: head.seq };
    intruder.say_sealed(intruder.changes(other, "x")).await;
    witness.turn().await;
    let version = witness.turn().await;
    witness.takes_effect(&version).await;
    witness.is_left_alone().await;
    witness.change().await;
}

/// A copy of the database that somebody tries things on, with the same epoch and the same key, talks on the same broker.
#[tokio::test]
async fn the_log_has_the_last_word_on_what_was_said_of_it() {
    let wired = Wired::start(&[]).await;
    let mut witness = Witness::new(&wired.cluster).await;
    let copy = Intruder::new(&wired.nats.url, "default", &seal_key(&wired.cluster)).await;
    for _ in 0..3 {
        let head: Version = witness.turn().await.parse().unwrap();
        witness.takes_effect(&head.to_string()).await;
        // What the copy says of the next position is heard, and what is true of it is not.
        let mut heard = 0;
        wired.from_b.rule(Way::Down, move |subject| {
            heard += u32::from(hint(subject));
            if hint(subject) && heard > 1 { Fate::Drop } else { Fate::Pass }
        });
        copy.say_sealed(copy.changes_of("cleo", at(&head, head.seq.get() + 1), "x")).await;
        until("what the copy says", async || {
            let ready = witness.ready().await;
            (seq(ready.body["pv"].as_str().unwrap()) == head.seq.get() + 1).then_some(())
        })
        .await;
        let version = witness.turn().await;
        let took = witness.takes_effect(&version).await;
        assert!(took < crate::witness::IN_TIME, "{took:?}");
        wired.from_b.fair(Way::Down);
    }
}

#[tokio::test]
async fn deployments_on_one_broker_do_not_hear_each_other() {
    let cluster = Cluster::start().await;
    let mut witness = Witness::new(&cluster).await;
    let url = cluster.nats.as_ref().unwrap().url.clone();
    // One with a name of its own, and one whose name was forgotten to be set: its seals are of another key.
    for name in ["other", "default"] {
        let other = Cluster::start_by([Some(&url), Some(&url)], &[("PERMCAST_DEPLOYMENT", name)]).await;
        let mut others = Witness::new(&other).await;
        for _ in 0..3 {
            witness.change().await;
            others.change().await;
            witness.is_left_alone().await;
            others.is_left_alone().await;
        }
        let ids = |body: &serde_json::Value| body["items"].as_array().unwrap().len();
        assert_eq!(ids(&witness.root.get("/v1/replicas").await.ok().body), 2);
        assert_eq!(witness.ready().await.body["broker"], json!("up"));
    }
    assert!(rejected(&witness, "seal").await > 0, "of the one with the same name");
    let before = seq(&witness.tokens.pv);
    witness.change().await;
    assert!(seq(&witness.tokens.pv) > before);
    tokio::time::timeout(Duration::from_secs(2), witness.is_left_alone()).await.unwrap();
}
