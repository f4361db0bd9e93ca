//! What is held beside what the database says, for whoever compares the two.

use std::sync::Arc;

use super::{PermissionCache, UserKey, gather};
use crate::domain::records::UserKind;
use crate::domain::{Access, Basis, RoleNo, Stamp, TenantName, Timestamp, UserId, Version};
use crate::store::{Loaded, RoleFacts, StoreError, UserFacts};

/// The name of something that the cache may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A user's own part.
    User(UserKey),
    /// A role with all that it includes.
    Role(RoleNo),
    /// A user and his roles, put together: what decisions are made from.
    Access(UserKey),
}

/// A user and his roles, put together; `None` where he may do nothing.
pub(crate) type Whole = Option<(Arc<Access>, UserKind)>;

/// What it is made of; `None` where there is no such thing, or it counts for nothing.
#[derive(Debug, Clone)]
pub enum Content {
    User(Option<UserFacts>),
    Role(Option<RoleFacts>),
    Access(Whole),
}

/// Something that was held and fresh when it was looked at.
#[derive(Debug)]
pub struct Held {
    pub content: Content,
    basis: Basis,
    until: Option<Timestamp>,
}

impl Held {
    /// As of which position it holds.
    pub fn stamp(&self) -> Stamp {
        self.basis.stamp()
    }
}

impl PermissionCache {
    /// Hands over the names of all that is held.
    pub fn each_subject(&self, mut found: impl FnMut(Subject)) {
        self.users.iter().for_each(|(key, _)| found(Subject::User(key)));
        self.roles.iter().for_each(|(number, _)| found(Subject::Role(number)));
        self.assembled.iter().for_each(|(key, _)| found(Subject::Access(key)));
    }

    /// What is held under a name, if a decision would use it now.
    pub fn held(&self, subject: &Subject) -> Option<Held> {
        let held = match subject {
            Subject::User(key) => self.users.get(key).map(|entry| Held {
                content: Content::User(entry.facts.clone()),
                basis: entry.basis.clone(),
                until: entry.until,
            }),
            Subject::Role(number) => self.roles.get(number).map(|entry| Held {
                content: Content::Role(entry.facts.clone()),
                basis: entry.basis.clone(),
                until: entry.until,
            }),
            Subject::Access(key) => self.assembled.get(key).map(|assembled| Held {
                content: Content::Access(assembled.found.clone()),
                basis: assembled.basis.clone(),
                until: assembled.found.as_ref().and_then(|(access, _)| access.first_expiry),
            }),
        };
        held.filter(|held| self.would_use(held))
    }

    /// Whether a decision would still use it.
    pub fn would_use(&self, held: &Held) -> bool {
        let now = self.clock.now();
        self.floors.is_fresh(&held.basis) && held.until.is_none_or(|until| now < until)
    }

    /// The same from the database, and the highest position that was read at; `None` where a restore came in between.
    pub async fn read_anew(&self, subject: &Subject, held: &Held) -> Result<Option<(Version, Content)>, StoreError> {
        let mut reading = Reading::default();
        let content = match subject {
            Subject::User((tenant, user)) => {
                let mut facts = reading.note(self.store.load_user(tenant, user).await?);
                if let (Some(facts), Content::User(Some(held))) = (&mut facts, &held.content) {
                    // The end of a role is a change of the role and not of its members, whose entries still name it.
                    // It grants nothing: its number never comes back.
                    for &number in &held.roles {
                        if !facts.roles.contains(&number) && reading.note(self.store.load_role(number).await?).is_none()
                        {
                            facts.roles.push(number);
                        }
                    }
                    facts.roles.sort_unstable();
                }
                Content::User(facts)
            }
            Subject::Role(number) => Content::Role(reading.note(self.store.load_role(*number).await?)),
            Subject::Access((tenant, user)) => Content::Access(self.read_whole(tenant, user, &mut reading).await?),
        };
        Ok(reading.highest().map(|version| (version, content)))
    }

    /// A user and his roles from the database, and the highest position that was read at; `None` where a restore came in
    /// between.
    pub async fn read_user(&self, tenant: &TenantName, user: &UserId) -> Result<Option<(Version, Whole)>, StoreError> {
        let mut reading = Reading::default();
        let whole = self.read_whole(tenant, user, &mut reading).await?;
        Ok(reading.highest().map(|version| (version, whole)))
    }

    async fn read_whole(&self, tenant: &TenantName, user: &UserId, reading: &mut Reading) -> Result<Whole, StoreError> {
        let whole = reading.note(self.store.load_whole(tenant, user).await?);
        let Some(whole) = whole.filter(|whole| whole.user.active) else { return Ok(None) };
        let access = gather(tenant.clone(), user.clone(), &whole.user, whole.roles.iter());
        Ok(Some((Arc::new(access), whole.user.kind)))
    }

    /// Lets go of what was found to be wrong.
    pub fn forget(&self, subject: &Subject) {
        match subject {
            Subject::User(key) | Subject::Access(key) => {
                self.users.remove(key);
                self.assembled.remove(key);
            }
            Subject::Role(number) => {
                self.roles.remove(number);
            }
        }
    }
}

/// The versions of several reads that are to be taken as one.
#[derive(Default)]
struct Reading {
    highest: Option<Version>,
    torn: bool,
}

impl Reading {
    fn note<T>(&mut self, loaded: Loaded<T>) -> T {
        match self.highest {
            Some(highest) if highest.epoch != loaded.version.epoch => self.torn = true,
            Some(highest) if highest.seq >= loaded.version.seq => {}
            _ => self.highest = Some(loaded.version),
        }
        loaded.value
    }

    fn highest(self) -> Option<Version> {
        self.highest.filter(|_| !self.torn)
    }
}
