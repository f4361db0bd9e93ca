//! Keys, secrets, settings, the lockdown, and the replicas.

use std::time::Duration;

use crate::domain::operation::{NewLockdown, Operation, Resource};
use crate::domain::permission::OPERATOR;
use crate::domain::records::{LockdownRecord, ReplicaRecord};
use crate::domain::rules::Refusal;
use crate::domain::{Actor, Seq};
use crate::store::{KeyRotation, KeyState, StoredKey};

use super::bench::Bench;
use super::company::company;
use super::words::tenant;

fn key(bench: &Bench, kid: &str, state: KeyState) -> StoredKey {
    StoredKey {
        kid: kid.to_owned(),
        algorithm: "EdDSA".to_owned(),
        private: kid.as_bytes().to_vec(),
        public: vec![1, 2, 3],
        state,
        created_at: bench.now(),
        retire_at: None,
    }
}

async fn states(bench: &Bench) -> Vec<(String, KeyState)> {
    let keys = bench.store.keys().await.unwrap();
    assert_eq!(keys.version.seq, bench.head().await);
    let mut states: Vec<_> = keys.value.into_iter().map(|key| (key.kid, key.state)).collect();
    states.sort_by(|a, b| a.0.cmp(&b.0));
    states
}

fn named(states: &[(&str, KeyState)]) -> Vec<(String, KeyState)> {
    states.iter().map(|&(kid, state)| (kid.to_owned(), state)).collect()
}

async fn first_keys(bench: &Bench) {
    let proposed = vec![key(bench, "k1", KeyState::Current), key(bench, "k2", KeyState::Next)];
    bench.store.ensure_keys(proposed).await.unwrap();
}

fn rotation(bench: &Bench, actor: &Actor, current: &str, next: &str) -> KeyRotation {
    KeyRotation {
        actor: actor.clone(),
        current: key(bench, current, KeyState::Current),
        next: key(bench, next, KeyState::Next),
        retire_at: bench.after(Duration::from_mins(15)),
        revoke: false,
        sessions: false,
    }
}

const SYSTEM: Actor = Actor::System("system");

pub(crate) async fn who_comes_first_makes_the_keys(bench: Bench) {
    assert!(states(&bench).await.is_empty());
    let mine = vec![key(&bench, "k1", KeyState::Current), key(&bench, "k2", KeyState::Next)];
    let mut made = bench.store.ensure_keys(mine.clone()).await.unwrap();
    made.sort_by(|a, b| a.kid.cmp(&b.kid));
    assert_eq!(made, mine);
    let yours = vec![key(&bench, "k3", KeyState::Current)];
    let mut there = bench.store.ensure_keys(yours).await.unwrap();
    there.sort_by(|a, b| a.kid.cmp(&b.kid));
    assert_eq!(there, mine, "whoever comes later finds them there");
    assert!(!format!("{made:?}").contains("107"), "no private key in what people read");
}

pub(crate) async fn keys_rotate_and_retire(bench: Bench) {
    first_keys(&bench).await;
    let rows = bench.watched(bench.store.rotate_keys(rotation(&bench, &SYSTEM, "k2", "k3"))).await.unwrap();
    assert_eq!(rows, ["keys / changed"]);
    let previous = named(&[("k1", KeyState::Previous), ("k2", KeyState::Current), ("k3", KeyState::Next)]);
    assert_eq!(states(&bench).await, previous);
    let keys = bench.store.keys().await.unwrap().value;
    let retire_at = keys.iter().find(|key| key.kid == "k1").unwrap().retire_at;
    assert_eq!(retire_at, Some(bench.after(Duration::from_mins(15))));
    assert_eq!(bench.store.next_expiry().await.unwrap(), retire_at);

    bench.pass(Duration::from_mins(15));
    assert_eq!(bench.expire().await, ["keys / changed"]);
    assert_eq!(states(&bench).await, previous[1..]);
    assert!(bench.expire().await.is_empty());
    assert_eq!(bench.store.next_expiry().await.unwrap(), None);
}

pub(crate) async fn revoked_keys_verify_nothing(bench: Bench) {
    company(&bench).await;
    first_keys(&bench).await;
    let session = bench.session("ben").await;
    bench.store.rotate_keys(rotation(&bench, &SYSTEM, "k2", "k3")).await.unwrap();
    let revoke = KeyRotation { revoke: true, ..rotation(&bench, &SYSTEM, "k3", "k4") };
    let mut rows = bench.watched(bench.store.rotate_keys(revoke)).await.unwrap();
    rows.sort();
    assert_eq!(rows, ["everyone / changed", "keys / changed"]);
    assert_eq!(states(&bench).await, named(&[("k3", KeyState::Current), ("k4", KeyState::Next)]));
    assert!(bench.is_live(&session).await, "sessions go on unless asked");

    let all = KeyRotation { revoke: true, sessions: true, ..rotation(&bench, &SYSTEM, "k5", "k6") };
    let mut rows = bench.watched(bench.store.rotate_keys(all)).await.unwrap();
    rows.sort();
    assert_eq!(rows, ["everyone / keys_revoked", "keys / changed"]);
    assert_eq!(states(&bench).await, named(&[("k5", KeyState::Current), ("k6", KeyState::Next)]));
    assert!(!bench.is_live(&session).await);
    let later = bench.session("ben").await;
    assert!(bench.is_live(&later).await);
}

pub(crate) async fn a_key_that_is_out_of_use_stays_so(bench: Bench) {
    first_keys(&bench).await;
    bench.store.rotate_keys(rotation(&bench, &SYSTEM, "k2", "k3")).await.unwrap();
    let before = states(&bench).await;
    for (current, next) in [("k1", "k4"), ("k3", "k1")] {
        let refused = bench.watched(bench.store.rotate_keys(rotation(&bench, &SYSTEM, current, next))).await;
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
        assert_eq!(states(&bench).await, before);
    }
    bench.pass(Duration::from_mins(15));
    bench.expire().await;
    let refused = bench.watched(bench.store.rotate_keys(rotation(&bench, &SYSTEM, "k1", "k4"))).await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
}

pub(crate) async fn of_two_rotations_at_once_the_second_is_refused(bench: Bench) {
    first_keys(&bench).await;
    let second = rotation(&bench, &SYSTEM, "k2", "k4");
    bench.store.rotate_keys(rotation(&bench, &SYSTEM, "k2", "k3")).await.unwrap();
    let refused = bench.watched(bench.store.rotate_keys(second)).await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
}

pub(crate) async fn a_key_is_retired_before_its_time(bench: Bench) {
    company(&bench).await;
    first_keys(&bench).await;
    let retire = async |actor: &Actor, kid: &str| bench.watched(bench.store.retire_key(actor, kid)).await;
    for kid in ["k1", "k2", "k9"] {
        assert!(matches!(retire(&SYSTEM, kid).await, Err(Refusal::Invalid(_))), "{kid}");
    }
    bench.store.rotate_keys(rotation(&bench, &SYSTEM, "k2", "k3")).await.unwrap();
    let max = bench.actor("default", "max").await;
    assert_eq!(retire(&max, "k1").await, Err(Refusal::NotAllowed(OPERATOR)));
    assert_eq!(retire(&SYSTEM, "k1").await.unwrap(), ["keys / changed"]);
    assert_eq!(states(&bench).await, named(&[("k2", KeyState::Current), ("k3", KeyState::Next)]));
    assert!(retire(&SYSTEM, "k1").await.unwrap().is_empty(), "it is so already");
}

pub(crate) async fn only_an_operator_rotates(bench: Bench) {
    company(&bench).await;
    first_keys(&bench).await;
    let before = states(&bench).await;
    let max = bench.actor("default", "max").await;
    let refused = bench.watched(bench.store.rotate_keys(rotation(&bench, &max, "k2", "k3"))).await;
    assert_eq!(refused, Err(Refusal::NotAllowed(OPERATOR)));
    assert_eq!(states(&bench).await, before);
    let ada = bench.actor("default", "ada").await;
    bench.does([super::words::sign_out("ada")]).await;
    let refused = bench.watched(bench.store.rotate_keys(rotation(&bench, &ada, "k2", "k3"))).await;
    assert_eq!(refused, Err(Refusal::SessionOver));
    let ada = bench.actor("default", "ada").await;
    bench.watched(bench.store.rotate_keys(rotation(&bench, &ada, "k2", "k3"))).await.unwrap();
}

pub(crate) async fn secrets_and_settings_are_whose_comes_first(bench: Bench) {
    let head = bench.head().await;
    assert_eq!(bench.store.ensure_secret("seal", vec![1]).await.unwrap(), [1]);
    assert_eq!(bench.store.ensure_secret("seal", vec![2]).await.unwrap(), [1]);
    assert_eq!(bench.store.ensure_secret("other", vec![2]).await.unwrap(), [2]);
    assert_eq!(bench.store.setting("seal").await.unwrap(), None);
    assert_eq!(bench.store.ensure_setting("seal", "a").await.unwrap(), "a");
    assert_eq!(bench.store.ensure_setting("seal", "b").await.unwrap(), "a");
    assert_eq!(bench.store.setting("seal").await.unwrap().as_deref(), Some("a"));
    assert_eq!(bench.head().await, head);
}

fn lock(home: Option<&str>, retry_after_s: u32) -> NewLockdown {
    NewLockdown { tenant: home.map(tenant), retry_after_s, until: None }
}

pub(crate) async fn one_lockdown_at_a_time(bench: Bench) {
    company(&bench).await;
    let set = |new: Option<NewLockdown>| Operation::SetLockdown(new);
    assert!(bench.rows(set(None)).await.is_empty());
    let written = bench.does([set(Some(lock(None, 60)))]).await;
    assert_eq!(super::bench::rows(&written), ["lockdown / changed"]);
    let since = bench.now();
    let record = LockdownRecord { tenant: None, retry_after_s: 60, since, until: None };
    assert_eq!(written.outcomes[0].resource, Resource::Lockdown(Some(record.clone())));
    assert_eq!(bench.store.lockdown().await.unwrap(), Some(record.clone()));
    bench.pass(Duration::from_secs(1));
    assert!(bench.rows(set(Some(lock(None, 60)))).await.is_empty(), "it is so already");
    assert_eq!(bench.store.lockdown().await.unwrap(), Some(record));

    assert!(!bench.rows(set(Some(lock(Some("acme"), 5)))).await.is_empty());
    let current = bench.store.lockdown().await.unwrap().unwrap();
    assert_eq!((current.tenant, current.retry_after_s), (Some(tenant("acme")), 5));
    assert_eq!(bench.rows(set(None)).await, ["lockdown acme/ changed"]);
    assert_eq!(bench.store.lockdown().await.unwrap(), None);
    assert_eq!(bench.refused(set(Some(lock(Some("nowhere"), 5)))).await, Refusal::UnknownTenant);
}

pub(crate) async fn a_lockdown_lifts_by_itself(bench: Bench) {
    let until = Some(bench.after(Duration::from_mins(1)));
    bench.does([Operation::SetLockdown(Some(NewLockdown { until, ..lock(None, 5) }))]).await;
    assert_eq!(bench.store.next_expiry().await.unwrap(), until);
    bench.pass(Duration::from_mins(1));
    assert_eq!(bench.store.lockdown().await.unwrap(), None);
    assert_eq!(bench.expire().await, ["lockdown / changed"]);
    assert!(bench.expire().await.is_empty());
    assert_eq!(bench.store.next_expiry().await.unwrap(), None);
}

pub(crate) async fn replicas_are_those_that_say_so(bench: Bench) {
    let head = bench.head().await;
    let record = |id: &str, applied: u64| ReplicaRecord {
        id: id.to_owned(),
        started_at: bench.now(),
        seen_at: bench.now(),
        applied: Seq::new(applied).unwrap(),
        connections: 3,
    };
    let ids = async |within: Duration| {
        let mut all = bench.store.replicas(within).await.unwrap();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all.into_iter().map(|r| (r.id, r.applied.get(), r.connections)).collect::<Vec<_>>()
    };
    let seconds = Duration::from_secs;
    bench.store.renew_replica(&record("a", 1)).await.unwrap();
    bench.pass(seconds(5));
    bench.store.renew_replica(&record("b", 2)).await.unwrap();
    assert_eq!(ids(seconds(6)).await, [("a".to_owned(), 1, 3), ("b".to_owned(), 2, 3)]);
    assert_eq!(ids(seconds(4)).await, [("b".to_owned(), 2, 3)]);
    bench.store.renew_replica(&record("a", 7)).await.unwrap();
    assert_eq!(ids(seconds(4)).await, [("a".to_owned(), 7, 3), ("b".to_owned(), 2, 3)]);
    bench.store.remove_replica("a").await.unwrap();
    bench.store.remove_replica("nobody").await.unwrap();
    assert_eq!(ids(seconds(60)).await, [("b".to_owned(), 2, 3)]);
    assert_eq!(bench.head().await, head, "who runs is no change");
}
