//! The model of the one true database: its log, who has which role, which sessions there are. Everything that a
//! snapshot rests on is known here, so the oracles need not believe the floors.

use std::sync::LazyLock;

use permcast::domain::{Change, Effect, Epoch, RoleName, Seq, SessionId, Target, TenantName, Timestamp, UserId};

pub(crate) const TENANTS: usize = 2;
pub(crate) const USERS: usize = 3;
pub(crate) const ROLES: usize = 3;

pub(crate) struct Names {
    pub(crate) tenants: [TenantName; TENANTS],
    pub(crate) users: [UserId; USERS],
    pub(crate) roles: [RoleName; ROLES],
}

pub(crate) static NAMES: LazyLock<Names> = LazyLock::new(|| Names {
    tenants: ["acme", "beta"].map(|name| name.parse().unwrap()),
    users: ["ada", "ben", "cleo"].map(|name| name.parse().unwrap()),
    roles: ["viewer", "editor", "admin"].map(|name| name.parse().unwrap()),
});

pub(crate) fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

pub(crate) fn timestamp(millis: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(millis).unwrap())
}

/// The epoch of this number.
pub(crate) fn epoch_of(number: usize) -> Epoch {
    Epoch::from_random([u8::try_from(number).unwrap(); 8])
}

pub(crate) fn session_id(number: usize) -> SessionId {
    let mut bits = [0; 16];
    bits[..8].copy_from_slice(&(number as u64).to_le_bytes());
    SessionId::from_random(bits)
}

/// Names of the roles in a set of bits.
pub(crate) fn role_names(bits: u8) -> impl Iterator<Item = &'static RoleName> + Clone {
    (0..ROLES).filter(move |role| bits & (1 << role) != 0).map(|role| &NAMES.roles[role])
}

/// What a row touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touched {
    User(usize, usize),
    Role(usize, usize),
    Tenant(usize),
    Everyone,
    Session(usize, usize, usize),
}

/// One thing that a snapshot rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dependency {
    User(usize, usize),
    /// Roles of a tenant, as bits.
    Roles(usize, u8),
    /// Tenant, user, session.
    Session(usize, usize, usize),
}

/// Something that was truly read, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) life: usize,
    pub(crate) read_at: u64,
    pub(crate) on: Dependency,
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) touched: Touched,
    pub(crate) effect: Effect,
    /// Whether a read of the log shows it.
    pub(crate) kept: bool,
}

impl Row {
    pub(crate) fn change(&self) -> Change {
        let tenant = |t: usize| NAMES.tenants[t].clone();
        let target = match self.touched {
            Touched::User(t, u) => Target::User { tenant: tenant(t), user: NAMES.users[u].clone() },
            Touched::Role(t, r) => Target::Role { tenant: tenant(t), role: NAMES.roles[r].clone() },
            Touched::Tenant(t) => Target::Tenant { tenant: tenant(t) },
            Touched::Everyone => Target::Everyone,
            Touched::Session(t, u, s) => {
                Target::Session { tenant: tenant(t), user: NAMES.users[u].clone(), session: session_id(s) }
            }
        };
        Change { seq: seq(self.seq), at: timestamp(self.at), target, effect: self.effect }
    }

    pub(crate) fn touches(&self, on: Dependency) -> bool {
        // The rule in its own words, not by the function that is under test.
        let ends = self.effect != Effect::Changed;
        match (self.touched, on) {
            (Touched::Everyone, Dependency::Session(..)) => ends,
            (Touched::Everyone, _) => true,
            (Touched::Tenant(t), Dependency::Session(of, ..)) => t == of && ends,
            (Touched::Tenant(t), Dependency::User(of, _) | Dependency::Roles(of, _)) => t == of,
            (Touched::User(t, u), Dependency::User(of, user)) => (t, u) == (of, user),
            (Touched::User(t, u), Dependency::Session(of, user, _)) => ends && (t, u) == (of, user),
            (Touched::Role(t, r), Dependency::Roles(of, bits)) => t == of && bits & (1 << r) != 0,
            (Touched::Session(.., s), Dependency::Session(.., session)) => s == session,
            _ => false,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) tenant: usize,
    pub(crate) user: usize,
    begun: u64,
    pub(crate) number: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Database {
    /// Which history: a log that was taken back has another one, though its epoch is the same until somebody notices.
    pub(crate) life: usize,
    pub(crate) epoch: usize,
    pub(crate) rows: Vec<Row>,
    roles_of: [[u8; USERS]; TENANTS],
    /// Which roles of lower number a role includes.
    includes: [[u8; ROLES]; TENANTS],
    pub(crate) sessions: Vec<Session>,
}

impl Database {
    pub(crate) fn head(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Writes one row, and alters what it speaks of.
    pub(crate) fn commit(&mut self, at: u64, touched: Touched, effect: Effect, bits: u8) -> Row {
        match touched {
            Touched::User(t, u) => self.roles_of[t][u] = bits & 7,
            Touched::Role(t, r) => self.includes[t][r] = bits & ((1 << r) - 1),
            _ => {}
        }
        let row = Row { seq: self.head() + 1, at, touched, effect, kept: true };
        self.rows.push(row.clone());
        row
    }

    /// As the store's `begin_anew`: only if what was seen of this epoch is not there.
    pub(crate) fn lacks(&self, seen: &Change) -> bool {
        let row = self.rows.iter().find(|row| row.seq == seen.seq.get());
        row.is_none_or(|row| row.kept && row.change() != *seen)
    }

    pub(crate) fn open_session(&mut self, tenant: usize, user: usize, number: usize) {
        self.sessions.push(Session { tenant, user, begun: self.head(), number });
    }

    /// A session that is not over.
    pub(crate) fn session(&self, number: usize) -> Option<Session> {
        let session = self.sessions.iter().find(|session| session.number == number)?;
        let on = Dependency::Session(session.tenant, session.user, number);
        let over = self.rows.iter().any(|row| row.seq > session.begun && row.touches(on));
        (!over).then_some(*session)
    }

    pub(crate) fn roles_of(&self, tenant: usize, user: usize) -> u8 {
        self.roles_of[tenant][user]
    }

    /// A role and all that it includes.
    pub(crate) fn closure(&self, tenant: usize, role: usize) -> u8 {
        let included = self.includes[tenant][role];
        let deeper = (0..role).filter(|lower| included & (1 << lower) != 0);
        deeper.fold(1 << role, |bits, lower| bits | self.closure(tenant, lower))
    }

    /// As the store's `position_at`.
    pub(crate) fn position_at(&self, time: u64) -> u64 {
        self.rows.iter().find(|row| row.kept && row.at >= time).map_or(self.head(), |row| row.seq - 1)
    }
}
