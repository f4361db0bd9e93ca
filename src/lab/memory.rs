//! What is decided from memory: is a snapshot fresh, and does a token hold?

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};

use super::report::{Group, Row};
use super::{Deaf, LabError, options};
use crate::domain::{
    Access, Applied, Basis, Change, Clock, Effect, Epoch, Floors, Random, RoleName, Seq, SessionId, Stamp, Target,
    TenantName, Timestamp, UserId, Version,
};
use crate::runtime::{SystemClock, SystemRandom};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::token::{Algorithm, KeySet, Mint, Snapshot, TokenPermissions, TokenSettings, Vault, Verifier};

/// Rounds, of which the middle one counts.
const ROUNDS: u32 = 5;
/// Snapshots that are asked about by turns.
const SNAPSHOTS: usize = 4096;
/// Tokens that are verified by turns.
const TOKENS: u8 = 255;

/// Nanoseconds a question: the median of some rounds that last so long together.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn measure(period: Duration, mut question: impl FnMut(usize)) -> f64 {
    let clock = SystemClock;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (mut asked, begun) = (0, clock.boottime());
            loop {
                for _ in 0..256 {
                    question(asked);
                    asked += 1;
                }
                let took = clock.boottime().since(begun);
                if took >= period / ROUNDS {
                    return took.as_secs_f64() * 1e9 / asked as f64;
                }
            }
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn user(number: usize) -> UserId {
    format!("user-{number}").parse().expect("it is a user's id")
}

fn role(number: usize) -> RoleName {
    format!("role-{number}").parse().expect("it is a role's name")
}

/// Floors that so many changes of other users raised, and snapshots below the last of them.
fn with_floors(count: usize) -> (Floors, Vec<Basis>) {
    let floors = Floors::new(42, 2_000_000);
    let seq = |number: usize| Seq::new(number as u64).expect("there are fewer changes than positions");
    for number in 0..count {
        let target = Target::User { tenant: TenantName::first(), user: user(number) };
        let at = Timestamp::from_millis(0);
        let _ = floors.raise(&Change { seq: seq(number + 1), at, target, effect: Effect::Changed }, 1);
    }
    let roles: Vec<RoleName> = (0..5).map(role).collect();
    let session = SessionId::from_random([1; 16]);
    let stamp = Stamp::new(1, seq(count.saturating_sub(1)));
    let bases = (0..SNAPSHOTS)
        .map(|number| floors.token_basis(stamp, &TenantName::first(), &user(count + number), &session, roles.iter()))
        .collect();
    (floors, bases)
}

/// A decision's freshness.
pub(super) fn freshness(period: Duration) -> Group {
    const FLOORS: usize = 100_000;
    let fresh = |what: &str, count| {
        let (floors, bases) = with_floors(count);
        Row::nanos(what, measure(period, |n| assert!(black_box(floors.is_fresh(&bases[n % SNAPSHOTS])))))
    };
    let quiet = fresh("nothing in the tenant has moved since", 0);
    let busy = fresh("100,000 floors in the tenant, none of them its own", FLOORS);
    let map: RwLock<HashMap<String, usize>> =
        RwLock::new((0..FLOORS).map(|number| (format!("default/user-{number}"), number)).collect());
    let names: Vec<String> = (0..SNAPSHOTS).map(|number| format!("default/user-{}", number * 7919 % FLOORS)).collect();
    let plain = measure(period, |n| {
        let map = map.read().expect("nobody panics while he holds it");
        let highest = (0..6).filter_map(|step| map.get(&names[(n + step) % SNAPSHOTS])).max();
        assert!(black_box(highest.is_some()));
    });
    let floor = Row::nanos("six look-ups in a map of 100,000 names under a lock", plain).into_floor();
    Group { title: "Is a snapshot fresh? (user, session, 5 roles)", rows: vec![quiet, busy, floor] }
}

/// Whether a token holds.
pub(super) async fn tokens(period: Duration) -> Result<Group, LabError> {
    let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let store = MemoryStore::new(options(Arc::new(Deaf)), Arc::clone(&clock), Arc::clone(&random));
    let store: Arc<dyn Store> = Arc::new(store);
    let ttl = Duration::from_mins(15);
    let vault = Arc::new(Vault::plain());
    let keys = KeySet::open(store, vault, Algorithm::EdDsa, ttl, Arc::clone(&clock), Arc::clone(&random)).await?;
    let keys = Arc::new(keys);
    let issuer = "https://lab.example".to_owned();
    let settings = TokenSettings { audience: issuer.clone(), issuer, ttl, permissions: TokenPermissions::Claims };
    let epoch = Epoch::from_random(random.bytes());
    let mint = Mint::new(Arc::clone(&keys), settings.clone(), Arc::clone(&clock), random);
    let tokens: Vec<String> = (0..TOKENS)
        .map(|number| Ok(mint.mint(&snapshot(epoch, number, &*clock))?.token))
        .collect::<Result<_, LabError>>()?;
    let floors = Arc::new(Floors::new(7, 1000));
    let applied = Arc::new(Applied::new(epoch));
    let verifier =
        || Verifier::new(Arc::clone(&keys), Arc::clone(&floors), Arc::clone(&applied), Arc::clone(&clock), &settings);

    let pair = Ed25519KeyPair::generate().map_err(|_| LabError::Crypto)?;
    let signature = pair.sign(tokens[0].as_bytes());
    let public = ParsedPublicKey::new(&ED25519, pair.public_key().as_ref()).map_err(|_| LabError::Crypto)?;
    let bare = measure(period, |_| {
        black_box(public.verify_sig(tokens[0].as_bytes(), signature.as_ref())).expect("it is ours");
    });
    let mut fresh = verifier();
    let first = measure(period, |n| {
        let number = n % tokens.len();
        if number == 0 {
            // A verifier that has seen none of them.
            fresh = verifier();
        }
        black_box(fresh.verify(&tokens[number])).expect("it is ours");
    });
    let warm = verifier();
    let again = measure(period, |n| {
        let verified = warm.verify(&tokens[n % tokens.len()]).expect("it is ours");
        assert!(black_box(floors.is_fresh(&verified.basis)));
    });
    let rows = vec![
        Row::nanos("verified for the first time", first),
        Row::nanos("verified again, its floors looked at", again),
        Row::nanos("an Ed25519 signature, nothing else", bare).into_floor(),
    ];
    Ok(Group { title: "Does a token hold? (one core)", rows })
}

fn snapshot(epoch: Epoch, number: u8, clock: &dyn Clock) -> Snapshot {
    let grants = (0..10).map(|n| format!("invoices{n}:read").parse().expect("it is a permission")).collect();
    Snapshot {
        access: Arc::new(Access {
            tenant: TenantName::first(),
            user: user(number.into()),
            roles: vec![role(0)].into(),
            permissions: Arc::new(grants),
            first_expiry: None,
        }),
        session: SessionId::from_random([number; 16]),
        session_expires_at: clock.now().plus(Duration::from_hours(1)),
        version: Version { epoch, seq: Seq::ZERO },
        client_id: "lab".to_owned(),
    }
}
