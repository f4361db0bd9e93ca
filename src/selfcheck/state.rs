//! What is looked at next, and whether two accounts of it agree. Pure.

use std::fmt;
use std::time::Duration;

use crate::cache::{Content, Subject};
use crate::domain::floors::FloorKey;
use crate::domain::{Boottime, Timestamp};
use crate::hub::{Footing, Seen, Told};

/// Names that are drawn at a time: going through the whole cache is worth it once in so many looks.
const DRAWN: usize = 256;
/// Connections under suspicion at the most.
const SUSPECTS_MAX: usize = 64;
/// How long a connection may rest on what is not so without being told. Between registering and the first comparison, and
/// between the end of a grant and its deletion, it may, for milliseconds.
const UNTOLD_MAX: Duration = Duration::from_secs(2);
/// The same where its session is not to be found: one that has run its time is over without a change, and a token of it may
/// be used until its leeway, and until a cut one had to be replaced.
const SESSIONLESS_MAX: Duration = Duration::from_secs(45);

/// What a look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Agrees,
    Differs(Difference),
    /// It could not be compared; says why.
    Skipped(&'static str),
}

/// In what two accounts differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    Existence,
    Kind,
    Standing,
    Roles,
    Grants,
    Expiry,
    Session,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Existence => "existence",
            Self::Kind => "kind",
            Self::Standing => "standing",
            Self::Roles => "roles",
            Self::Grants => "grants",
            Self::Expiry => "expiry",
            Self::Session => "session",
        })
    }
}

/// How a metric calls it.
pub(super) fn what(subject: &Subject) -> &'static str {
    match subject {
        Subject::User(_) => "user",
        Subject::Role(_) => "role",
        Subject::Access(_) => "access",
    }
}

/// Whether what is held is what was read, no change having touched it in between.
pub(super) fn compare(held: &Content, read: &Content) -> Option<Difference> {
    use Difference::{Existence, Expiry, Grants, Kind, Roles, Standing};
    let first = |found: &[(bool, Difference)]| found.iter().find(|(differs, _)| *differs).map(|&(_, what)| what);
    match (held, read) {
        (Content::User(Some(held)), Content::User(Some(read))) => first(&[
            (held.no != read.no || held.kind != read.kind, Kind),
            (held.active != read.active, Standing),
            (sorted(&held.roles) != sorted(&read.roles), Roles),
            (held.grants != read.grants, Grants),
            (is_later(held.first_expiry, read.first_expiry), Expiry),
        ]),
        (Content::Role(Some(held)), Content::Role(Some(read))) => first(&[
            (held.tenant != read.tenant || held.closure != read.closure, Roles),
            (held.grants != read.grants, Grants),
        ]),
        (Content::Access(Some((held, held_kind))), Content::Access(Some((read, read_kind)))) => first(&[
            (held_kind != read_kind, Kind),
            (held.roles != read.roles, Roles),
            (held.permissions.grants() != read.permissions.grants(), Grants),
            (is_later(held.first_expiry, read.first_expiry), Expiry),
        ]),
        (Content::User(None), Content::User(None))
        | (Content::Role(None), Content::Role(None))
        | (Content::Access(None), Content::Access(None)) => None,
        _ => Some(Existence),
    }
}

fn sorted<T: Ord + Copy>(items: &[T]) -> Vec<T> {
    let mut sorted = items.to_vec();
    sorted.sort_unstable();
    sorted
}

/// An entry that gives up too soon does no harm, and one that knew a role which is gone by now does.
fn is_later(held: Option<Timestamp>, read: Option<Timestamp>) -> bool {
    read.is_some_and(|read| held.is_none_or(|held| held > read))
}

/// A connection's user as the database has him.
#[derive(Debug)]
pub(super) struct Account {
    /// Keys of his roles, closed over inclusion; `None` where he may do nothing.
    pub(super) roles: Option<Vec<FloorKey>>,
    pub(super) operator: bool,
    /// Keys of his sessions that are not over; `None` where there are too many to tell.
    pub(super) sessions: Option<Vec<FloorKey>>,
}

/// Whether a connection rests on what is not so. That is no fault yet: its client may be about to be told.
pub(super) fn suspect(footing: &Footing, account: &Account, told: Told) -> Option<Difference> {
    if told != Told::Nothing {
        return None;
    }
    let Some(roles) = &account.roles else { return Some(Difference::Standing) };
    let mut roles = roles.clone();
    roles.sort_unstable();
    roles.dedup();
    if roles[..] != footing.roles[..] || account.operator != footing.operator {
        return Some(Difference::Roles);
    }
    // Where no session is behind it, none can be over.
    let session = footing.session.zip(account.sessions.as_ref());
    let over = session.is_some_and(|(session, sessions)| !sessions.contains(&session));
    over.then_some(Difference::Session)
}

/// What is next.
#[derive(Debug)]
pub(super) enum Next {
    Subject(Subject),
    /// One under suspicion.
    Suspect(Suspect),
    /// Any connection.
    Connection,
    /// Draw names first: the bag is empty.
    Draw,
}

/// A connection that rests on what is not so.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) seen: Seen,
    pub(super) since: Boottime,
}

/// What is to be looked at.
#[derive(Debug, Default)]
pub(super) struct State {
    bag: Vec<Subject>,
    suspects: Vec<Suspect>,
    turn: u64,
    offered: u64,
}

impl State {
    /// Suspects again and again until they are cleared or convicted; between them entries and connections by turns.
    pub(super) fn next(&mut self) -> Next {
        self.turn += 1;
        match self.turn % 3 {
            0 => self.suspects.pop().map_or(Next::Connection, Next::Suspect),
            1 => Next::Connection,
            _ => self.bag.pop().map_or(Next::Draw, Next::Subject),
        }
    }

    /// Puts a name into the bag, so that of all that are offered each is as likely to stay. `number` is drawn.
    pub(super) fn offer(&mut self, subject: Subject, number: u64) {
        self.offered += 1;
        if self.bag.len() < DRAWN {
            // Not at the end, so that what is offered together does not come out together.
            let place = usize::try_from(number % (self.bag.len() as u64 + 1)).unwrap_or_default();
            self.bag.push(subject);
            let last = self.bag.len() - 1;
            self.bag.swap(place, last);
        } else if let Some(place) = usize::try_from(number % self.offered).ok().filter(|&place| place < DRAWN) {
            self.bag[place] = subject;
        }
    }

    /// All were offered.
    pub(super) fn drawn(&mut self) {
        self.offered = 0;
    }

    /// Takes in what a look at a connection found. One that was under suspicion says since when.
    pub(super) fn judge(
        &mut self,
        seen: Seen,
        since: Option<Boottime>,
        found: Option<Difference>,
        now: Boottime,
    ) -> Verdict {
        let Some(difference) = found else { return Verdict::Agrees };
        let since = since.unwrap_or(now);
        let patience = if difference == Difference::Session { SESSIONLESS_MAX } else { UNTOLD_MAX };
        if now.since(since) >= patience {
            return Verdict::Differs(difference);
        }
        if self.suspects.len() < SUSPECTS_MAX {
            self.suspects.insert(0, Suspect { seen, since });
        }
        Verdict::Skipped("unsettled")
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
