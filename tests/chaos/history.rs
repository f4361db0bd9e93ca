//! What happened, as those who took part saw it. All times are since the run began, on one clock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) type Moment = Duration;
/// A position in the log.
pub(crate) type Seq = u64;

/// A few small numbers: of roles, or of permissions.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Set(pub(crate) u32);

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Set {
    pub(crate) fn of(numbers: &[u8]) -> Self {
        numbers.iter().fold(Self::default(), |set, &number| set.with(number))
    }

    pub(crate) fn has(self, number: u8) -> bool {
        self.0 & (1 << number) != 0
    }

    #[must_use]
    pub(crate) fn with(self, number: u8) -> Self {
        Self(self.0 | 1 << number)
    }

    #[must_use]
    pub(crate) fn without(self, number: u8) -> Self {
        Self(self.0 & !(1 << number))
    }

    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in the one and not in the other.
    #[must_use]
    pub(crate) fn beyond(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (0..32).filter(move |&number| self.has(number))
    }
}

/// What an operation does. Users, roles and permissions are numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    Grant {
        user: u8,
        permission: u8,
    },
    Revoke {
        user: u8,
        permission: u8,
    },
    Join {
        user: u8,
        role: u8,
    },
    Leave {
        user: u8,
        role: u8,
    },
    Add {
        role: u8,
        permission: u8,
    },
    Remove {
        role: u8,
        permission: u8,
    },
    Include {
        role: u8,
        other: u8,
    },
    Exclude {
        role: u8,
        other: u8,
    },
    /// Replaces its list.
    Edit {
        role: u8,
        permissions: Set,
    },
    Make {
        role: u8,
        permissions: Set,
    },
    Drop {
        role: u8,
    },
    Activate {
        user: u8,
    },
    Suspend {
        user: u8,
    },
    /// Ends all of his sessions.
    SignOut {
        user: u8,
    },
    EndSession {
        session: String,
    },
    Rotate,
    /// Every access token ends; `sessions`: every session, too.
    RevokeKeys {
        sessions: bool,
    },
    /// The same for sessions alone, with a shell.
    SignOutAll,
}

/// What a row of the log names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Touch {
    pub(crate) kind: String,
    pub(crate) target: String,
}

impl fmt::Debug for Touch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.target)
    }
}

impl Touch {
    pub(crate) fn new(kind: &str, target: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), target: target.into() }
    }

    pub(crate) fn user(number: u8) -> Self {
        Self::new("user", user_name(number))
    }

    pub(crate) fn role(number: u8) -> Self {
        Self::new("role", role_name(number))
    }

    pub(crate) fn everyone() -> Self {
        Self::new("everyone", "")
    }

    /// No row's own: stands for those that end all that a user had begun.
    pub(crate) fn end_of(user: &str) -> Self {
        Self::new("end", user)
    }
}

pub(crate) fn user_name(number: u8) -> String {
    format!("u{number}")
}

pub(crate) fn role_name(number: u8) -> String {
    format!("r{number}")
}

pub(crate) fn permission_name(number: u8) -> String {
    format!("p{number}:use")
}

pub(crate) fn guest_name(number: usize) -> String {
    format!("x{number}")
}

/// The number in such a name.
pub(crate) fn number(name: &str) -> Option<u8> {
    name.get(1..)?.split(':').next()?.parse().ok()
}

/// What became of an operation, as far as its caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Acknowledged, with its last row in the log; `None`: it changed nothing.
    Done(Option<Seq>),
    /// Answered as not done.
    Refused,
    /// No answer. Its actor does nothing afterwards.
    Unknown,
}

/// All or nothing. One actor does one at a time.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// As the log names him.
    pub(crate) actor: String,
    pub(crate) effects: Vec<Effect>,
    pub(crate) begun: Moment,
    pub(crate) ended: Moment,
    pub(crate) outcome: Outcome,
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) seq: Seq,
    pub(crate) actor: String,
    pub(crate) touch: Touch,
    /// Whether it ends all that its user had begun: a token without permissions ends by nothing less.
    pub(crate) ends: bool,
}

/// A look at the log's end, past every replica.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glance {
    pub(crate) begun: Moment,
    pub(crate) ended: Moment,
    pub(crate) head: Seq,
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) owner: String,
    pub(crate) pv: Seq,
    /// What may make it stale: its user, its roles, its session, its tenant, everyone; of one without permissions only the
    /// end of its user, its session or everyone's.
    pub(crate) rests_on: Vec<Touch>,
}

/// What a replica said about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// All that he has.
    All { roles: Set, permissions: Set },
    /// Of some permissions, whether he has them.
    Each { asked: Set, allowed: Set },
}

/// One answer that was given. A refusal to decide is none.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub(crate) replica: usize,
    pub(crate) begun: Moment,
    pub(crate) ended: Moment,
    /// The caller's.
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) about: u8,
    pub(crate) said: Said,
    /// The version that the answer states; `None`: it states none.
    pub(crate) pv: Option<Seq>,
}

/// A connection of push, from its welcome to its end.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) replica: usize,
    pub(crate) ended: Moment,
    /// Which tokens it rested on, each since when.
    pub(crate) tokens: Vec<(Moment, Arc<Ticket>)>,
    /// When it was told to reach what.
    pub(crate) told: Vec<(Moment, Seq)>,
}

/// A permission given to a guest for a short time.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) guest: String,
    pub(crate) begun: Moment,
    /// When the grant is over.
    pub(crate) until: Moment,
}

/// A replica's yes to a question about a guest.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) guest: String,
    pub(crate) replica: usize,
    pub(crate) begun: Moment,
    pub(crate) ended: Moment,
}

/// One fault.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: &'static str,
    pub(crate) begun: Moment,
    pub(crate) ended: Moment,
    pub(crate) blinds: Blinds,
}

/// Who cannot learn of a change while a fault lasts, whatever he does, and so tells nobody of it (nor decides for long).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blinds {
    Nobody,
    Replica(usize),
    Everybody,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The log's end when the run began, and who might do what then.
    pub(crate) origin: Seq,
    pub(crate) before: super::model::State,
    pub(crate) operations: Vec<Operation>,
    pub(crate) glances: Vec<Glance>,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) visits: Vec<Visit>,
    pub(crate) admissions: Vec<Admission>,
    /// How often anything was asked about a guest.
    pub(crate) asked_about_guests: usize,
    /// The most memory that a replica was seen to use, in bytes.
    pub(crate) memory: u64,
    /// What had not come to rest in time after the faults.
    pub(crate) unsettled: Vec<String>,
    /// The log, and who may do what by the database's own tables, at the end.
    pub(crate) log: Vec<Row>,
    pub(crate) after: super::model::State,
}

impl History {
    /// What the log has at a position.
    pub(crate) fn row(&self, seq: Seq) -> Option<&Row> {
        self.log.binary_search_by_key(&seq, |row| row.seq).ok().map(|at| &self.log[at])
    }
}
