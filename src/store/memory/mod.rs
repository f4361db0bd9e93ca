//! The reference model: what every other store must do, done as naively as possible. One lock over plain maps; a write
//! works on a copy, and the copy takes the original's place only when all of it was done.

mod history;
mod state;
mod transaction;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::operation::PasswordHash;
use crate::domain::records::{
    GrantRecord, Identity, LockdownRecord, Page, ReplicaRecord, RoleRecord, SessionRecord, Status, TenantRecord,
    UserRecord,
};
use crate::domain::rules::Refusal;
use crate::domain::{
    Actor, Change, Clock, Effect, Epoch, LogRow, Origin, Random, RoleName, RoleNo, Seq, SessionId, Target, TenantName,
    Timestamp, Unit, UserId, Version,
};

use super::{
    Bound, Credentials, KEY_IN_USE, KeyRotation, KeyState, LiveSession, Loaded, NewSession, Outcome, RoleFacts,
    Rotation, Store, StoreError, StoreOptions, StoredKey, TailPage, TokenDigest, UNKNOWN_KEY, UserFacts, WholeUser,
    WriteError, Written,
};
use history::Inner;
use state::{RefreshChain, Session, State, holds, page};
use transaction::Transaction;

/// A store that forgets everything when it is dropped.
pub struct MemoryStore {
    options: StoreOptions,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

impl MemoryStore {
    /// A new database: the first tenant, and nothing else.
    #[expect(clippy::needless_pass_by_value, reason = "what every store is made of")]
    pub fn new(options: StoreOptions, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let state = State::new(clock.now());
        let epoch = Epoch::from_random(random.bytes());
        Self { options, clock, inner: Mutex::new(Inner { epoch, state, log: Vec::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, question: impl FnOnce(&State, Timestamp) -> T) -> T {
        question(&self.lock().state, self.clock.now())
    }

    fn load<T>(&self, question: impl FnOnce(&State, Timestamp) -> T) -> Loaded<T> {
        let inner = self.lock();
        let version = Version { epoch: inner.epoch, seq: inner.head() };
        Loaded { version, value: question(&inner.state, self.clock.now()) }
    }

    /// Changes what bears on nobody's permissions, so that there is nothing to log.
    fn alter<T>(&self, alteration: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        alteration(&mut self.lock().state, self.clock.now())
    }

    /// One write: on a copy, told to the listener once it has taken the original's place.
    fn transact<T>(
        &self,
        actor: Actor,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, (usize, Refusal)>,
    ) -> Result<(T, Written), WriteError> {
        let refused = |(index, refusal)| WriteError::Refused { index, refusal };
        let mut inner = self.lock();
        let mut transaction =
            Transaction::begin(inner.state.clone(), inner.head(), self.clock.now(), actor, &self.options)
                .map_err(|refusal| refused((0, refusal)))?;
        let value = work(&mut transaction).map_err(refused)?;
        let Transaction { state, rows, .. } = transaction;
        let changes: Vec<Change> = rows.iter().map(|row| row.change.clone()).collect();
        inner.state = state;
        inner.log.extend(rows);
        if !changes.is_empty() {
            self.options.listener.committed(inner.epoch, &changes);
        }
        let version = Version { epoch: inner.epoch, seq: inner.head() };
        Ok((value, Written { version, changes, outcomes: Vec::new() }))
    }

    /// A write by permcast itself, which no rule forbids.
    fn transact_freely<T>(&self, work: impl FnOnce(&mut Transaction<'_>) -> T) -> (T, Written) {
        match self.transact(Actor::System("system"), |transaction| Ok(work(transaction))) {
            Ok(done) => done,
            Err(error) => unreachable!("nothing refuses permcast itself: {error}"),
        }
    }
}

fn user_facts(state: &State, tenant: &TenantName, user: &UserId, now: Timestamp) -> Option<UserFacts> {
    let (home, facts) = state.user(tenant, user)?;
    let roles = facts.roles.iter().filter(|&(_, &at)| holds(at, now));
    let grants = facts.grants.iter().filter(|&(_, &at)| holds(at, now));
    let times = roles.clone().map(|(_, at)| at).chain(grants.clone().map(|(_, at)| at));
    Some(UserFacts {
        no: facts.no,
        kind: facts.kind,
        active: home.status == Status::Active && facts.status == Status::Active,
        first_expiry: times.flatten().min().copied(),
        roles: roles.map(|(no, _)| *no).collect(),
        grants: grants.map(|(grant, _)| grant.clone()).collect(),
    })
}

fn role_facts(state: &State, role: RoleNo) -> Option<RoleFacts> {
    let (tenant, home) = state.role_by_no(role)?;
    let mut closure: Vec<RoleName> = home.closure(role).iter().map(|no| home.roles[no].name.clone()).collect();
    closure.sort();
    let grants = home.closed_permissions(role).into_iter().collect();
    Some(RoleFacts { tenant: tenant.clone(), closure, grants })
}

#[async_trait]
impl Store for MemoryStore {
    async fn tail_beside(&self, after: Seq, anchors: [Seq; 2]) -> Result<TailPage, StoreError> {
        Ok(self.lock().tail(after, anchors))
    }

    async fn position_at(&self, time: Timestamp) -> Result<Version, StoreError> {
        let inner = self.lock();
        let before = inner.log.iter().map(|row| &row.change).take_while(|change| change.at < time);
        Ok(Version { epoch: inner.epoch, seq: before.last().map_or(Seq::ZERO, |change| change.seq) })
    }

    async fn changes(&self, tenant: Option<&TenantName>, after: Seq, limit: u32) -> Result<Vec<LogRow>, StoreError> {
        let inner = self.lock();
        let visible = |row: &&LogRow| match (tenant, row.change.target.tenant()) {
            (Some(asked), Some(touched)) => asked == touched,
            _ => true,
        };
        let later = inner.log.iter().filter(|row| row.change.seq > after).filter(visible);
        Ok(later.take(limit as usize).cloned().collect())
    }

    async fn oldest_change(&self) -> Result<Seq, StoreError> {
        Ok(self.lock().log.first().map_or(Seq::ZERO, |row| row.change.seq))
    }

    async fn prune_log(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        Ok(self.lock().prune(self.clock.now(), keep, limit))
    }

    async fn begin_anew(&self, epoch: Epoch, seen: Option<&Change>, anew: Epoch) -> Result<bool, StoreError> {
        Ok(self.lock().begin_anew(epoch, seen, anew, self.clock.now()))
    }

    async fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn load_user(&self, tenant: &TenantName, user: &UserId) -> Result<Loaded<Option<UserFacts>>, StoreError> {
        Ok(self.load(|state, now| user_facts(state, tenant, user, now)))
    }

    async fn load_role(&self, role: RoleNo) -> Result<Loaded<Option<RoleFacts>>, StoreError> {
        Ok(self.load(|state, _| role_facts(state, role)))
    }

    async fn load_whole(&self, tenant: &TenantName, user: &UserId) -> Result<Loaded<Option<WholeUser>>, StoreError> {
        Ok(self.load(|state, now| {
            let user = user_facts(state, tenant, user, now)?;
            let roles = user.roles.iter().filter(|_| user.active).filter_map(|&role| role_facts(state, role)).collect();
            Some(WholeUser { user, roles })
        }))
    }

    async fn load_identity(
        &self,
        tenant: &TenantName,
        identity: &Identity,
    ) -> Result<Loaded<Option<Bound>>, StoreError> {
        let inner = self.lock();
        let version = Version { epoch: inner.epoch, seq: inner.head() };
        Ok(Loaded { version, value: inner.state.bound(tenant, identity, &inner.log) })
    }

    async fn load_session(&self, session: &SessionId) -> Result<Loaded<Option<LiveSession>>, StoreError> {
        Ok(self.load(|state, now| state.live_session(session, now)))
    }

    async fn write(&self, unit: Unit) -> Result<Written, WriteError> {
        let (outcomes, mut written) = self.transact(unit.actor, |transaction| {
            let mut outcomes = Vec::new();
            for (index, operation) in unit.operations.into_iter().enumerate() {
                let before = transaction.head();
                let resource = transaction.apply(operation).map_err(|refusal| (index, refusal))?;
                let after = transaction.head();
                outcomes.push(Outcome { resource, change: (after > before).then_some(after) });
            }
            Ok(outcomes)
        })?;
        written.outcomes = outcomes;
        Ok(written)
    }

    async fn delete_expired(&self) -> Result<Written, StoreError> {
        let ((), written) = self.transact_freely(|transaction| {
            transaction.delete_expired();
        });
        Ok(written)
    }

    async fn next_expiry(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.read(|state, _| {
            let users = state.tenants.values().flat_map(|tenant| tenant.users.values());
            let grants = users.flat_map(|user| user.roles.values().chain(user.grants.values()).flatten());
            let lockdown = state.lockdown.iter().filter_map(|lockdown| lockdown.until.as_ref());
            let previous = state.keys.iter().filter(|key| key.state == KeyState::Previous);
            grants.chain(lockdown).chain(previous.filter_map(|key| key.retire_at.as_ref())).min().copied()
        }))
    }

    async fn credentials(&self, tenant: &TenantName, login: &str) -> Result<Option<Credentials>, StoreError> {
        Ok(self.read(|state, _| {
            let home = state.tenants.get(tenant)?;
            let email = Some(login.to_lowercase());
            let by_email = || home.users.iter().find(|(_, user)| user.email == email);
            let (id, user) = home.users.get_key_value(login).or_else(by_email)?;
            Some(Credentials {
                user: id.clone(),
                kind: user.kind,
                active: home.status == Status::Active && user.status == Status::Active,
                password: user.password.clone(),
            })
        }))
    }

    async fn renew_hash(
        &self,
        tenant: &TenantName,
        user: &UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        Ok(self.alter(|state, _| {
            let users = state.tenants.get_mut(tenant).map(|tenant| &mut tenant.users);
            let found = users.and_then(|users| users.get_mut(user)).filter(|user| user.password.as_ref() == Some(old));
            found.map(|user| user.password = Some(new.clone())).is_some()
        }))
    }

    async fn open_session(&self, new: NewSession) -> Result<Option<LiveSession>, StoreError> {
        let mut inner = self.lock();
        let (head, now) = (inner.head(), self.clock.now());
        let Some((_, user)) = inner.state.user(&new.tenant, &new.user) else { return Ok(None) };
        if new.password.is_some() && new.password != user.password {
            return Ok(None);
        }
        let session = Session {
            expires_at: new.expires_at(now),
            idle: new.idle,
            ends_at: new.ends_at,
            tenant: new.tenant,
            user: new.user,
            begun: head,
            ended: None,
            refresh: new.refresh.map(|current| RefreshChain { current, issued_at: now, previous: None }),
            address: new.address,
            user_agent: new.user_agent,
            created_at: now,
            last_refresh_at: now,
            seq: head,
        };
        inner.state.sessions.insert(new.id.clone(), session);
        let live = inner.state.live_session(&new.id, now);
        if live.is_none() {
            inner.state.sessions.remove(&new.id);
        }
        Ok(live)
    }

    async fn rotate(
        &self,
        id: &SessionId,
        presented: &TokenDigest,
        successor: &TokenDigest,
        _: &Origin,
    ) -> Result<Rotation, StoreError> {
        let (rotation, _) = self.transact_freely(|transaction| transaction.rotate(id, presented, successor));
        Ok(rotation)
    }

    async fn end_session(&self, session: &SessionId, effect: Effect, _: &Origin) -> Result<Written, StoreError> {
        Ok(self.transact_freely(|transaction| transaction.end_session(session, effect)).1)
    }

    async fn sessions(
        &self,
        tenant: &TenantName,
        user: &UserId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<SessionRecord>, StoreError> {
        Ok(self.read(|state, now| {
            let own = state.sessions.iter().filter(|(_, s)| s.tenant == *tenant && s.user == *user);
            let live = own.filter(|(id, _)| state.live_session(id, now).is_some());
            let records = live.map(|(id, session)| {
                let record = SessionRecord {
                    id: id.clone(),
                    created_at: session.created_at,
                    last_refresh_at: session.last_refresh_at,
                    address: session.address.clone(),
                    user_agent: session.user_agent.clone(),
                    seq: session.seq,
                };
                (id.to_string(), record)
            });
            page(records, after, limit)
        }))
    }

    async fn tenant(&self, tenant: &TenantName) -> Result<Option<TenantRecord>, StoreError> {
        Ok(self.read(|state, _| Some(state.tenants.get(tenant)?.record(tenant))))
    }

    async fn tenants(&self, after: Option<&str>, limit: u32) -> Result<Page<TenantRecord>, StoreError> {
        Ok(self.read(|state, _| {
            let records = state.tenants.iter().map(|(name, tenant)| (name.to_string(), tenant.record(name)));
            page(records, after, limit)
        }))
    }

    async fn user(&self, tenant: &TenantName, user: &UserId) -> Result<Option<UserRecord>, StoreError> {
        Ok(self.read(|state, _| Some(state.user(tenant, user)?.1.record(user))))
    }

    async fn users(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<UserRecord>, StoreError> {
        Ok(self.read(|state, _| {
            let users = state.tenants.get(tenant).into_iter().flat_map(|home| &home.users);
            page(users.map(|(id, user)| (id.to_string(), user.record(id))), after, limit)
        }))
    }

    async fn role(&self, tenant: &TenantName, role: &RoleName) -> Result<Option<RoleRecord>, StoreError> {
        Ok(self.read(|state, _| {
            let home = state.tenants.get(tenant)?;
            Some(home.role_record(&home.roles[&home.role_named(role)?]))
        }))
    }

    async fn roles(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<RoleRecord>, StoreError> {
        Ok(self.read(|state, _| {
            let home = state.tenants.get(tenant).into_iter();
            let mut records: Vec<_> =
                home.flat_map(|home| home.roles.values().map(|role| home.role_record(role))).collect();
            records.sort_by(|a, b| a.name.cmp(&b.name));
            page(records.into_iter().map(|record| (record.name.to_string(), record)), after, limit)
        }))
    }

    async fn grants(&self, tenant: &TenantName, user: &UserId) -> Result<Option<Vec<GrantRecord>>, StoreError> {
        Ok(self.read(|state, now| {
            let (home, user) = state.user(tenant, user)?;
            Some(home.grant_records(user, now))
        }))
    }

    async fn keys(&self) -> Result<Loaded<Vec<StoredKey>>, StoreError> {
        Ok(self.load(|state, _| state.keys.iter().filter(|key| key.state != KeyState::Retired).cloned().collect()))
    }

    async fn ensure_keys(&self, proposed: Vec<StoredKey>) -> Result<Vec<StoredKey>, StoreError> {
        self.transact_freely(|transaction| {
            if transaction.state.keys.is_empty() {
                transaction.state.keys = proposed;
                transaction.log(Target::Keys, Effect::Changed);
            }
        });
        Ok(self.keys().await?.value)
    }

    async fn rotate_keys(&self, rotation: KeyRotation) -> Result<Written, WriteError> {
        let ((), written) = self.transact(rotation.actor, |transaction| {
            transaction.for_operators().map_err(|refusal| (0, refusal))?;
            let fresh = [&rotation.current.kid, &rotation.next.kid];
            let out_of_use = |key: &StoredKey| key.state != KeyState::Next;
            if transaction.state.keys.iter().any(|key| out_of_use(key) && fresh.contains(&&key.kid)) {
                return Err((0, Refusal::Invalid("this key was in use before")));
            }
            transaction.state.keys.retain(|key| !fresh.contains(&&key.kid));
            for key in &mut transaction.state.keys {
                match key.state {
                    KeyState::Current if !rotation.revoke => {
                        key.state = KeyState::Previous;
                        key.retire_at = Some(rotation.retire_at);
                    }
                    KeyState::Previous if !rotation.revoke => {}
                    _ => key.state = KeyState::Retired,
                }
            }
            transaction.state.keys.push(StoredKey { state: KeyState::Current, ..rotation.current });
            transaction.state.keys.push(StoredKey { state: KeyState::Next, ..rotation.next });
            transaction.log(Target::Keys, Effect::Changed);
            if rotation.revoke && rotation.sessions {
                transaction.state.ended_before = transaction.log(Target::Everyone, Effect::KeysRevoked);
            } else if rotation.revoke {
                transaction.log(Target::Everyone, Effect::Changed);
            }
            Ok(())
        })?;
        Ok(written)
    }

    async fn retire_key(&self, actor: &Actor, kid: &str) -> Result<Written, WriteError> {
        let ((), written) = self.transact(actor.clone(), |transaction| {
            transaction.for_operators().map_err(|refusal| (0, refusal))?;
            let found = transaction.state.keys.iter_mut().find(|key| key.kid == kid).ok_or((0, UNKNOWN_KEY))?;
            match found.state {
                KeyState::Current | KeyState::Next => return Err((0, KEY_IN_USE)),
                KeyState::Retired => return Ok(()),
                KeyState::Previous => found.state = KeyState::Retired,
            }
            transaction.log(Target::Keys, Effect::Changed);
            Ok(())
        })?;
        Ok(written)
    }

    async fn ensure_secret(&self, name: &str, proposed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        Ok(self.alter(|state, _| state.secrets.entry(name.to_owned()).or_insert(proposed).clone()))
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.read(|state, _| state.settings.get(name).cloned()))
    }

    async fn ensure_setting(&self, name: &str, proposed: &str) -> Result<String, StoreError> {
        Ok(self.alter(|state, _| state.settings.entry(name.to_owned()).or_insert(proposed.to_owned()).clone()))
    }

    async fn has_operator(&self) -> Result<bool, StoreError> {
        Ok(self.read(|state, _| state.has_operator()))
    }

    async fn lockdown(&self) -> Result<Option<LockdownRecord>, StoreError> {
        Ok(self.read(State::lockdown_in_force))
    }

    async fn renew_replica(&self, replica: &ReplicaRecord) -> Result<(), StoreError> {
        self.alter(|state, now| {
            let seen = ReplicaRecord { seen_at: now, ..replica.clone() };
            state.replicas.insert(replica.id.clone(), seen);
        });
        Ok(())
    }

    async fn remove_replica(&self, id: &str) -> Result<(), StoreError> {
        self.alter(|state, _| state.replicas.remove(id));
        Ok(())
    }

    async fn replicas(&self, within: Duration) -> Result<Vec<ReplicaRecord>, StoreError> {
        Ok(self.read(|state, now| {
            state.replicas.values().filter(|replica| replica.seen_at >= now.minus(within)).cloned().collect()
        }))
    }

    async fn close(&self) {}
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;
    use crate::store::contract::{Made, Parts, contract_suite};
    use std::sync::Arc;

    async fn make(parts: Parts) -> Made {
        (Arc::new(MemoryStore::new(parts.options, parts.clock, parts.random)), Box::new(()))
    }

    contract_suite!(super::make);
    crate::store::contract::agreement::agreement_test!(make, 64);
}
