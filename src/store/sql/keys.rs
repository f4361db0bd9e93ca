//! Signing keys, secrets, settings, and the replicas that run.

use std::time::Duration;

use crate::domain::records::ReplicaRecord;
use crate::domain::rules::Refusal;
use crate::domain::{Actor, Timestamp};
use crate::store::{KEY_IN_USE, KeyRotation, KeyState, Loaded, StoredKey, UNKNOWN_KEY, Written};

use super::facts::TenantFacts;
use super::log;
use super::read::loaded;
use super::statement::{Arg, Ask, Row, args, get, malformed, maybe_time, parsed, time};
use super::writer::{Fault, Script, Transaction, Work, operation};

const SYSTEM: Actor = Actor::System("system");

fn word(state: KeyState) -> &'static str {
    match state {
        KeyState::Next => "next",
        KeyState::Current => "current",
        KeyState::Previous => "previous",
        KeyState::Retired => "retired",
    }
}

fn key(row: &dyn Row) -> Result<StoredKey, sqlx::Error> {
    Ok(StoredKey {
        kid: get(row, "kid")?,
        algorithm: get(row, "algorithm")?,
        private: get(row, "private")?,
        public: get(row, "public")?,
        state: match get::<&str>(row, "state")? {
            "next" => KeyState::Next,
            "current" => KeyState::Current,
            "previous" => KeyState::Previous,
            "retired" => KeyState::Retired,
            _ => return Err(malformed("state")),
        },
        created_at: time(row, "created_at")?,
        retire_at: maybe_time(row, "retire_at")?,
    })
}

fn key_args(key: &StoredKey, state: KeyState) -> Vec<Arg> {
    args![
        key.kid.as_str(),
        key.algorithm.as_str(),
        &key.private[..],
        &key.public[..],
        word(state),
        key.created_at,
        key.retire_at
    ]
}

/// All keys that are not retired.
pub(in crate::store) async fn all(readers: &mut impl Ask) -> Result<Loaded<Vec<StoredKey>>, sqlx::Error> {
    const LIST: &str = "SELECT m.epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head, k.* \
         FROM meta m LEFT JOIN keys k ON k.state <> 'retired' ORDER BY k.created_at, k.kid";
    let rows = readers.all(LIST, vec![]).await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let mut keys = Vec::new();
    for row in &rows {
        if get::<Option<&str>>(row, "kid")?.is_some() {
            keys.push(key(row)?);
        }
    }
    loaded(first, keys)
}

/// Puts keys in if there is none.
pub(in crate::store) struct EnsureKeys(pub(in crate::store) Vec<StoredKey>);

impl Work for EnsureKeys {
    type Answer = Vec<StoredKey>;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Self::Answer, Fault> {
        const LIST: &str = "SELECT * FROM keys";
        if transaction.all(LIST, vec![])?.is_empty() {
            transaction.begin_unit()?;
            for proposed in &self.0 {
                let sql = operation!(
                    "INSERT INTO keys (kid, algorithm, private, public, state, created_at, retire_at) \
                         VALUES ($5, $6, $7, $8, $9, $10, $11)"
                );
                let args = key_args(proposed, proposed.state);
                transaction.operate(&SYSTEM, Script { sql, args, summary: None })?;
            }
            transaction.end_unit()?;
        }
        let rows = transaction.all(LIST, vec![])?;
        let keys = rows.iter().map(|row| key(row)).collect::<Result<Vec<_>, _>>()?;
        Ok(keys.into_iter().filter(|key| key.state != KeyState::Retired).collect())
    }
}

impl Work for KeyRotation {
    type Answer = Written;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Written, Fault> {
        // A key that was put out of use never comes back into it.
        const OUT_OF_USE: &str = "SELECT EXISTS (SELECT 1 FROM keys WHERE kid IN ($1, $2) \
             AND state IN ('current', 'previous', 'retired')) AS found";
        let refused = |refusal| Fault::Refused { index: 0, refusal };
        let (sql, args) = TenantFacts::question(&self.actor, transaction.now, None);
        let (common, _) = TenantFacts::read(&self.actor, &transaction.one(sql, args)?)?;
        common.entered(None).map_err(refused)?;

        let row = transaction.one(OUT_OF_USE, args![self.current.kid.as_str(), self.next.kid.as_str()])?;
        if get::<bool>(&row, "found")? {
            return Err(refused(Refusal::Invalid("this key was in use before")));
        }

        let sql = operation!(
            "UPDATE keys SET state = CASE \
                     WHEN kid = $5 THEN 'current' WHEN kid = $12 THEN 'next' \
                     WHEN $19 = 0 AND state IN ('current', 'previous') THEN 'previous' ELSE 'retired' END, \
                 retire_at = CASE WHEN kid IN ($5, $12) THEN NULL WHEN $19 = 0 AND state = 'current' THEN $20 \
                     ELSE retire_at END \
                 WHERE state <> 'retired'",
            "INSERT INTO keys (kid, algorithm, private, public, state, created_at, retire_at) \
                 SELECT $5, $6, $7, $8, $9, $10, NULL WHERE NOT EXISTS (SELECT 1 FROM keys WHERE kid = $5)",
            "INSERT INTO keys (kid, algorithm, private, public, state, created_at, retire_at) \
                 SELECT $12, $13, $14, $15, $16, $17, NULL WHERE NOT EXISTS (SELECT 1 FROM keys WHERE kid = $12)",
            "INSERT INTO log (kind, effect, summary) SELECT 'everyone', 'changed', 'access tokens revoked' \
                 WHERE $19 = 1 AND $21 = 0",
            "UPDATE meta SET sign_outs = sign_outs + 1 WHERE $19 = 1 AND $21 = 1"
        );
        let mut args = key_args(&self.current, KeyState::Current);
        args.extend(key_args(&self.next, KeyState::Next));
        args.extend(args![i64::from(self.revoke), self.retire_at, i64::from(self.sessions)]);
        let summary = Some(if self.revoke { "signing keys revoked" } else { "signing keys rotated" }.to_owned());
        let changes = transaction.operate(&self.actor, Script { sql, args, summary })?;
        transaction.written(changes)
    }
}

/// Retires a key that signs no more.
pub(in crate::store) struct Retirement {
    pub(in crate::store) actor: Actor,
    pub(in crate::store) kid: String,
}

impl Work for Retirement {
    type Answer = Written;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Written, Fault> {
        const FIND: &str = "SELECT (SELECT state FROM keys WHERE kid = $1) AS state";
        let refused = |refusal| Fault::Refused { index: 0, refusal };
        let (sql, args) = TenantFacts::question(&self.actor, transaction.now, None);
        let (common, _) = TenantFacts::read(&self.actor, &transaction.one(sql, args)?)?;
        common.entered(None).map_err(refused)?;
        let row = transaction.one(FIND, args![self.kid.as_str()])?;
        match get::<Option<&str>>(&row, "state")? {
            None => return Err(refused(UNKNOWN_KEY)),
            Some("current" | "next") => return Err(refused(KEY_IN_USE)),
            _ => {}
        }
        let sql = operation!("UPDATE keys SET state = 'retired' WHERE kid = $5 AND state = 'previous'");
        let script = Script { sql, args: args![self.kid.as_str()], summary: Some("signing key retired".to_owned()) };
        let changes = transaction.operate(&self.actor, script)?;
        transaction.written(changes)
    }
}

/// Puts a secret in if there is none of this name.
pub(in crate::store) struct EnsureSecret {
    pub(in crate::store) name: String,
    pub(in crate::store) proposed: Vec<u8>,
}

impl Work for EnsureSecret {
    type Answer = Vec<u8>;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Vec<u8>, Fault> {
        const ENSURE: &str = "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING; \
             SELECT value FROM secrets WHERE name = $1";
        let rows = transaction.all(ENSURE, args![self.name.as_str(), &self.proposed[..]])?;
        Ok(get(rows.first().ok_or(sqlx::Error::RowNotFound)?, "value")?)
    }
}

/// Puts a setting in if there is none of this name.
pub(in crate::store) struct EnsureSetting {
    pub(in crate::store) name: String,
    pub(in crate::store) proposed: String,
}

impl Work for EnsureSetting {
    type Answer = String;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<String, Fault> {
        const ENSURE: &str = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING; \
             SELECT value FROM settings WHERE name = $1";
        let rows = transaction.all(ENSURE, args![self.name.as_str(), self.proposed.as_str()])?;
        Ok(get(rows.first().ok_or(sqlx::Error::RowNotFound)?, "value")?)
    }
}

/// A setting, if it was put in.
pub(in crate::store) async fn setting(readers: &mut impl Ask, name: &str) -> Result<Option<String>, sqlx::Error> {
    let row = readers.find("SELECT value FROM settings WHERE name = $1", args![name]).await?;
    row.map(|row| get(&row, "value")).transpose()
}

/// Says that a replica is running.
pub(in crate::store) struct RenewReplica(pub(in crate::store) ReplicaRecord);

impl Work for RenewReplica {
    type Answer = ();
    const LASTS: bool = false;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
        const RENEW: &str = "INSERT INTO replicas (id, started_at, seen_at, applied, connections) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at, \
                 seen_at = excluded.seen_at, applied = excluded.applied, connections = excluded.connections";
        let Self(replica) = self;
        let connections = i64::try_from(replica.connections).unwrap_or(i64::MAX);
        let args =
            args![replica.id.as_str(), replica.started_at, transaction.now, log::number(replica.applied), connections];
        Ok(transaction.execute(RENEW, args)?)
    }
}

/// Says that a replica has stopped.
pub(in crate::store) struct RemoveReplica(pub(in crate::store) String);

impl Work for RemoveReplica {
    type Answer = ();
    const LASTS: bool = false;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
        Ok(transaction.execute("DELETE FROM replicas WHERE id = $1", args![self.0.as_str()])?)
    }
}

/// The replicas that renewed within the last `within`.
pub(in crate::store) async fn replicas(
    readers: &mut impl Ask,
    within: Duration,
    now: Timestamp,
) -> Result<Vec<ReplicaRecord>, sqlx::Error> {
    const LIST: &str = "SELECT id, started_at, seen_at, applied, connections FROM replicas \
         WHERE seen_at >= $1 ORDER BY id";
    let rows = readers.all(LIST, args![now.minus(within)]).await?;
    rows.iter()
        .map(|row| {
            Ok(ReplicaRecord {
                id: parsed(row, "id")?,
                started_at: time(row, "started_at")?,
                seen_at: time(row, "seen_at")?,
                applied: log::seq(row, "applied")?,
                connections: get::<i64>(row, "connections")?.try_into().map_err(|_| malformed("connections"))?,
            })
        })
        .collect()
}
