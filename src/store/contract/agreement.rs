//! The same random things done to a store and to the model in memory come to the same: the same outcomes, the same
//! rows in the log, the same to be read afterwards.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;

use crate::domain::operation::{NewLockdown, NewUser, Operation, Resource, UserPatch};
use crate::domain::permission::{ADMIN, CHECK, OPERATOR};
use crate::domain::records::{Status, UserKind};
use crate::domain::rules::Refusal;
use crate::domain::{Actor, Effect, Origin, SessionId, TenantName, Timestamp};
use crate::store::memory::MemoryStore;
use crate::store::{NewSession, Outcome, Rotation, Written};

use super::bench::{Bench, Made, Parts, digest, password, rows};
use super::company::company;
use super::words::{
    add_role, add_tenant, create_user, delete_role, delete_tenant, delete_user, describe_role, exclude, forbid,
    give_until, identity, include, new_user, patch_role, patch_user, permit_until, role_gains, role_loses,
    set_tenant_status, sign_out, take, tenant, user, within,
};

const TENANTS: [&str; 3] = ["default", "default", "acme"];
const USERS: [&str; 6] = ["ada", "max", "ben", "cleo", "zoe", "nobody"];
const ROLES: [&str; 5] = ["viewer", "editor", "admins", "operators", "nothing"];
const PERMISSIONS: [&str; 6] = ["invoices:read", "invoices:*", "*", ADMIN, CHECK, OPERATOR];
const SESSIONS: usize = 12;

/// One thing to be done.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// `None`: by permcast itself; else in the session opened as this number.
    Write(Option<usize>, Vec<Draft>),
    Pass(u64),
    Expire,
    Open(usize, &'static str, &'static str),
    End(usize),
    Rotate(usize, u8, u8),
}

/// An operation whose times are still relative, and whose session is a number.
#[derive(Debug, Clone)]
pub(crate) enum Draft {
    Ready(Operation),
    GiveFor(&'static str, &'static str, &'static str, u64),
    PermitFor(&'static str, &'static str, &'static str, u64),
    LockFor(u64),
    EndSession(&'static str, usize),
}

fn session_id(number: usize) -> SessionId {
    SessionId::from_random([u8::try_from(number).unwrap(); 16])
}

impl Draft {
    fn at(&self, now: Timestamp) -> Operation {
        let after = |seconds: u64| Some(now.plus(Duration::from_secs(seconds)));
        match self {
            Self::Ready(operation) => operation.clone(),
            Self::GiveFor(home, user, role, seconds) => within(home, give_until(user, role, after(*seconds))),
            Self::PermitFor(home, user, permission, seconds) => {
                within(home, permit_until(user, permission, after(*seconds)))
            }
            Self::LockFor(seconds) => {
                Operation::SetLockdown(Some(NewLockdown { tenant: None, retry_after_s: 5, until: after(*seconds) }))
            }
            Self::EndSession(id, number) => {
                Operation::EndSession { tenant: tenant("default"), user: user(id), session: session_id(*number) }
            }
        }
    }
}

fn statuses() -> impl Strategy<Value = Status> {
    select(&[Status::Active, Status::Suspended])
}

fn user_patches() -> impl Strategy<Value = UserPatch> {
    let emails = prop_oneof![Just(None), select(&["a@x.org", "b@x.org"]).prop_map(|email| Some(email.to_owned()))];
    let passwords = prop_oneof![Just(None), select(&["one", "two"]).prop_map(|text| Some(password(text)))];
    let identities = proptest::collection::vec(select(&["1", "2", "3"]).prop_map(|s| identity("https://idp", s)), 0..3);
    let rare = |some| proptest::option::weighted(0.3, some);
    (
        proptest::option::weighted(0.3, select(&["A", "B"])),
        proptest::option::weighted(0.3, emails),
        rare(select(&[UserKind::Person, UserKind::Service])),
        proptest::option::weighted(0.3, passwords),
        proptest::option::weighted(0.3, statuses()),
        proptest::option::weighted(0.3, identities),
    )
        .prop_map(|(name, email, kind, password, status, identities)| UserPatch {
            name: name.map(str::to_owned),
            email,
            kind,
            password,
            status,
            identities,
        })
}

fn drafts() -> impl Strategy<Value = Draft> {
    let place = || (select(&TENANTS), select(&USERS), select(&ROLES), select(&PERMISSIONS), select(&ROLES));
    let lists = (
        proptest::option::of(proptest::collection::vec(select(&PERMISSIONS), 0..3)),
        proptest::option::of(proptest::collection::vec(select(&ROLES), 0..3)),
    );
    let of_users = (place(), 0..10).prop_map(|((home, id, role, permission, _), kind)| {
        let operation = match kind {
            0..=1 => give_until(id, role, None),
            2..=3 => take(id, role),
            4..=5 => permit_until(id, permission, None),
            6..=7 => forbid(id, permission),
            8 => delete_user(id),
            _ => sign_out(id),
        };
        Draft::Ready(within(home, operation))
    });
    let of_roles = (place(), 0..7).prop_map(|((home, _, role, permission, other), kind)| {
        let operation = match kind {
            0..=1 => role_gains(role, permission),
            2 => role_loses(role, permission),
            3..=4 => include(role, other),
            5 => exclude(role, other),
            _ => delete_role(role),
        };
        Draft::Ready(within(home, operation))
    });
    let role_lists = (place(), lists, any::<bool>()).prop_map(|((home, _, role, ..), (permissions, includes), new)| {
        let operation = if new {
            add_role(role, &permissions.unwrap_or_default(), &includes.unwrap_or_default())
        } else if permissions.is_none() && includes.is_none() {
            describe_role(role, "what it is for")
        } else {
            patch_role(role, permissions.as_deref(), includes.as_deref())
        };
        Draft::Ready(within(home, operation))
    });
    let new_users = (place(), user_patches()).prop_map(|((home, id, ..), patch)| {
        let new = NewUser {
            email: patch.email.flatten(),
            password: patch.password.flatten(),
            status: patch.status.unwrap_or(Status::Active),
            identities: patch.identities.unwrap_or_default(),
            ..new_user(id)
        };
        Draft::Ready(within(home, create_user(new)))
    });
    let patches =
        (place(), user_patches()).prop_map(|((home, id, ..), patch)| Draft::Ready(within(home, patch_user(id, patch))));
    let tenants = (select(&["default", "acme", "new"]), statuses(), 0..4).prop_map(|(name, status, kind)| {
        Draft::Ready(match kind {
            0 => add_tenant(name),
            1 => delete_tenant(name),
            _ => set_tenant_status(name, status),
        })
    });
    prop_oneof![
        6 => of_users,
        5 => of_roles,
        3 => role_lists,
        2 => new_users,
        4 => patches,
        1 => tenants,
        2 => (place(), 0..30_u64).prop_map(|((home, id, role, ..), s)| Draft::GiveFor(home, id, role, s)),
        2 => (place(), 0..30_u64).prop_map(|((home, id, _, permission, _), s)| Draft::PermitFor(home, id, permission, s)),
        1 => prop_oneof![
            (0..30_u64).prop_map(Draft::LockFor),
            Just(Draft::Ready(Operation::SetLockdown(None))),
        ],
        1 => (select(&USERS), 0..SESSIONS).prop_map(|(id, number)| Draft::EndSession(id, number)),
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let actor = proptest::option::weighted(0.6, 0..SESSIONS);
    let step = prop_oneof![
        10 => (actor, proptest::collection::vec(drafts(), 1..4)).prop_map(|(actor, drafts)| Step::Write(actor, drafts)),
        1 => (1..15_u64).prop_map(Step::Pass),
        1 => Just(Step::Expire),
        2 => (0..SESSIONS, select(&TENANTS), select(&USERS)).prop_map(|(n, home, id)| Step::Open(n, home, id)),
        1 => (0..SESSIONS).prop_map(Step::End),
        2 => (0..SESSIONS, 1..4_u8, 1..4_u8).prop_map(|(n, old, new)| Step::Rotate(n, old, new)),
    ];
    proptest::collection::vec(step, 1..25)
}

/// What a step came to, as far as two stores must agree on it.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Written(Vec<String>, Vec<(Resource, bool)>),
    Refused(usize, Refusal),
    Rows(Vec<String>),
    Opened(bool),
    Rotated(Rotation),
    Nothing,
}

/// Each thing once, whatever the number of its rows; of a user who was signed out it need not be said that he changed.
fn said(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    let ended: Vec<String> = ["suspended", "signed_out"]
        .iter()
        .flat_map(|end| rows.iter().filter_map(move |row| row.strip_suffix(end)))
        .map(|row| format!("{row}changed"))
        .collect();
    rows.retain(|row| !ended.contains(row));
    rows
}

async fn take_step(bench: &Bench, step: &Step, opened: &mut [Option<Actor>]) -> Came {
    match step {
        Step::Write(number, drafts) => {
            let actor = number.and_then(|number| opened[number].clone()).unwrap_or(Actor::System("system"));
            let operations = drafts.iter().map(|draft| draft.at(bench.now())).collect();
            match bench.attempt(&actor, operations).await {
                Ok(written) => came_of(written),
                Err((index, refusal)) => Came::Refused(index, refusal),
            }
        }
        Step::Pass(seconds) => {
            bench.pass(Duration::from_secs(*seconds));
            Came::Nothing
        }
        Step::Expire => Came::Rows(said(bench.expire().await)),
        Step::Open(number, home, id) => {
            if opened[*number].is_some() {
                return Came::Nothing;
            }
            let session = NewSession { id: session_id(*number), ..bench.new_session(home, id, 1) };
            let live = bench.store.open_session(session).await.unwrap();
            opened[*number] = live.as_ref().map(|live| Actor::User {
                tenant: live.tenant.clone(),
                user: live.user.clone(),
                session: live.id.clone(),
                origin: Origin::default(),
            });
            Came::Opened(live.is_some())
        }
        Step::End(number) => Came::Rows(bench.end(&session_id(*number), Effect::SignedOut).await),
        Step::Rotate(number, presented, successor) => {
            let rotation = bench
                .store
                .rotate(&session_id(*number), &digest(*presented), &digest(*successor), &Origin::default())
                .await;
            Came::Rotated(match rotation.unwrap() {
                // Whether a session that is over is remembered is nobody's business.
                Rotation::Unknown => Rotation::Over,
                known => known,
            })
        }
    }
}

fn came_of(written: Written) -> Came {
    let rows = said(rows(&written));
    let outcome = |mut outcome: Outcome| {
        if let Resource::Tenant(record) = &mut outcome.resource {
            // The first tenant is as old as the database.
            record.created_at = Timestamp::default();
        }
        (outcome.resource, outcome.change.is_some())
    };
    Came::Written(rows, written.outcomes.into_iter().map(outcome).collect())
}

async fn in_memory(parts: Parts) -> Made {
    (Arc::new(MemoryStore::new(parts.options, parts.clock, parts.random)), Box::new(()))
}

/// Does the steps to a store and to the model, and compares after each.
pub(crate) async fn compare(make: impl AsyncFnOnce(Parts) -> Made, steps: &[Step]) {
    let (model, store) = (Bench::new(in_memory).await, Bench::new(make).await);
    let mut opened = [const { None }; SESSIONS];
    for bench in [&model, &store] {
        company(bench).await;
        for (number, id) in ["ada", "max", "ben"].into_iter().enumerate() {
            take_step(bench, &Step::Open(number, "default", id), &mut opened.clone()).await;
        }
    }
    for (number, id) in ["ada", "max", "ben"].into_iter().enumerate() {
        opened[number] = Some(Actor::User {
            tenant: TenantName::first(),
            user: user(id),
            session: session_id(number),
            origin: Origin::default(),
        });
    }
    for (index, step) in steps.iter().enumerate() {
        let expected = take_step(&model, step, &mut opened.clone()).await;
        let came = take_step(&store, step, &mut opened).await;
        assert_eq!(came, expected, "step {index}: {step:?}");
        let (read, expected) = (store.records().await, model.records().await);
        let differing = read.lines().zip(expected.lines()).find(|(read, expected)| read != expected);
        assert_eq!((differing, read.len()), (None, expected.len()), "after step {index}: {step:?}");
        for number in 0..SESSIONS {
            let id = session_id(number);
            assert_eq!(store.is_live(&id).await, model.is_live(&id).await, "session {number} after step {index}");
        }
    }
}

/// Expands to the test of one implementation.
macro_rules! agreement_test {
    ($make:path, $cases:expr) => {
        proptest::proptest! {
            #![proptest_config(proptest::prelude::ProptestConfig::with_cases($cases))]

            #[test]
            fn it_agrees_with_the_model(steps in $crate::store::contract::agreement::steps()) {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on($crate::store::contract::agreement::compare($make, &steps));
            }
        }
    };
}
pub(crate) use agreement_test;
