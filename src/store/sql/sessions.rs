//! Sessions: opened, refreshed, ended, listed.

use std::time::Duration;

use crate::domain::operation::PasswordHash;
use crate::domain::records::{Page, SessionRecord};
use crate::domain::{Actor, Effect, Origin, SessionId, TenantName, Timestamp, UserId};
use crate::store::{Credentials, LiveSession, Loaded, NewSession, Rotation, TokenDigest, Written};

use super::facts::kind;
use super::log;
use super::read::{loaded, page};
use super::statement::{Ask, Row, args, get, malformed, maybe_time, parsed, time};
use super::writer::{Fault, Script, Transaction, Work, operation};

/// Opens a session.
pub(in crate::store) struct Opening(pub(in crate::store) NewSession);

impl Work for Opening {
    type Answer = Option<LiveSession>;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Self::Answer, Fault> {
        // Each opening takes away two that are past their time, so that they do not pile up.
        const OPEN: &str = "DELETE FROM sessions WHERE id IN ( \
                 SELECT id FROM sessions WHERE expires_at <= $5 ORDER BY expires_at LIMIT 2); \
             INSERT INTO sessions (id, \"user\", begun, refresh, issued_at, seen, address, user_agent, created_at, \
                 last_refresh_at, expires_at, idle, ends_at) \
             SELECT $1, u.no, (SELECT COALESCE(MAX(seq), 0) FROM changes), $4, $5, \
                 (SELECT COALESCE(MAX(seq), 0) FROM changes), $6, $7, $5, $5, $8, $10, $11 \
             FROM tenants t JOIN users u ON u.tenant = t.no AND u.id = $3 \
             WHERE t.name = $2 AND t.status = 'active' AND u.status = 'active' AND $8 > $5 \
               AND ($9 IS NULL OR u.password = $9) \
             RETURNING 1 AS opened";
        let Self(new) = self;
        let label = new.by.clone().unwrap_or_else(|| format!("{}/{}", new.tenant, new.user));
        let address = Some(new.address.as_str()).filter(|address| !address.is_empty());
        transaction.act(&label, address, new.request.as_deref())?;
        let expires_at = new.expires_at(transaction.now);
        let args = args![
            new.id.as_str(),
            new.tenant.as_str(),
            new.user.as_str(),
            new.refresh.as_ref().map(|digest| &digest[..]),
            transaction.now,
            new.address.as_str(),
            new.user_agent.as_str(),
            expires_at,
            new.password.as_ref().map(|hash| hash.0.as_str()),
            new.idle.map(|idle| i64::try_from(idle.as_millis()).unwrap_or(i64::MAX)),
            new.ends_at,
        ];
        let opened = !transaction.all(OPEN, args)?.is_empty();
        Ok(opened.then(|| LiveSession {
            id: new.id.clone(),
            tenant: new.tenant.clone(),
            user: new.user.clone(),
            expires_at,
        }))
    }
}

/// Renews the hash of a password.
pub(in crate::store) struct RenewHash {
    pub(in crate::store) tenant: TenantName,
    pub(in crate::store) user: UserId,
    pub(in crate::store) old: PasswordHash,
    pub(in crate::store) new: PasswordHash,
}

impl Work for RenewHash {
    type Answer = bool;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<bool, Fault> {
        const RENEW: &str = "UPDATE acting SET rehashing = 1; \
             UPDATE users SET password = $4 WHERE id = $2 AND password = $3 \
                 AND tenant = (SELECT no FROM tenants WHERE name = $1) RETURNING 1 AS renewed; \
             UPDATE acting SET rehashing = 0";
        let args = args![self.tenant.as_str(), self.user.as_str(), self.old.0.as_str(), self.new.0.as_str()];
        Ok(!transaction.all(RENEW, args)?.is_empty())
    }
}

/// Presents a refresh token.
pub(in crate::store) struct Rotating {
    pub(in crate::store) session: SessionId,
    pub(in crate::store) presented: TokenDigest,
    pub(in crate::store) successor: TokenDigest,
    pub(in crate::store) from: Origin,
}

impl Work for Rotating {
    type Answer = Rotation;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Rotation, Fault> {
        const FACTS: &str = "SELECT s.refresh, s.previous, s.issued_at, s.idle, s.ends_at, l.id, l.tenant_name, l.user_id, \
                 l.expires_at \
             FROM sessions s LEFT JOIN standing_sessions l ON l.id = $1 AND l.expires_at > $2 WHERE s.id = $1";
        const ROTATE: &str = "UPDATE sessions SET previous = refresh, refresh = $2, issued_at = $3, last_refresh_at = $3, \
             expires_at = $4, seen = (SELECT COALESCE(MAX(seq), 0) FROM changes) WHERE id = $1";
        let (id, now) = (self.session.as_str(), transaction.now);
        let rows = transaction.all(FACTS, args![id, now])?;
        let Some(row) = rows.first() else { return Ok(Rotation::Unknown) };
        if get::<Option<&str>>(row, "id")?.is_none() {
            return Ok(Rotation::Over);
        }
        let mut live = live_session(row)?;
        let (current, previous) = (digest(row, "refresh")?, digest(row, "previous")?);
        let young = now.since(time(row, "issued_at")?) < transaction.options.refresh_grace;
        if current == Some(self.presented) {
            if young {
                return Ok(Rotation::Kept(live));
            }
            if let Some(idle) = get::<Option<i64>>(row, "idle")?.and_then(|idle| u64::try_from(idle).ok()) {
                let ends_at = maybe_time(row, "ends_at")?.unwrap_or(live.expires_at);
                live.expires_at = now.plus(Duration::from_millis(idle)).min(ends_at);
            }
            let args = args![id, &self.successor[..], now, live.expires_at];
            transaction.execute(ROTATE, args)?;
            return Ok(Rotation::Rotated(live));
        }
        if previous == Some(self.presented) && young {
            return Ok(Rotation::Succeeded(live));
        }
        if current.is_none() {
            return Ok(Rotation::Unknown);
        }
        end(transaction, &live, Effect::RefreshReuse, &Actor::System("system"), &self.from)?;
        Ok(Rotation::Reused(live))
    }
}

/// Ends a session by possession of its token.
pub(in crate::store) struct Ending {
    pub(in crate::store) session: SessionId,
    pub(in crate::store) effect: Effect,
    pub(in crate::store) from: Origin,
}

impl Work for Ending {
    type Answer = Written;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Written, Fault> {
        const STANDS: &str = "SELECT id, tenant_name, user_id, expires_at FROM standing_sessions WHERE id = $1";
        let rows = transaction.all(STANDS, args![self.session.as_str()])?;
        let Some(row) = rows.first() else { return transaction.written(Vec::new()) };
        let live = live_session(row)?;
        let actor = Actor::User {
            tenant: live.tenant.clone(),
            user: live.user.clone(),
            session: self.session.clone(),
            origin: Origin::default(),
        };
        let changes = end(transaction, &live, self.effect, &actor, &self.from)?;
        transaction.written(changes)
    }
}

fn end(
    transaction: &mut Transaction<'_>,
    session: &LiveSession,
    effect: Effect,
    actor: &Actor,
    from: &Origin,
) -> Result<Vec<crate::domain::Change>, sqlx::Error> {
    let sql = operation!("UPDATE sessions SET ended_at = $6, ended_by = $7 WHERE id = $5");
    let args = args![session.id.as_str(), transaction.now, effect.as_str()];
    transaction.operate_from(actor, from, Script { sql, args, summary: None })
}

fn live_session(row: &dyn Row) -> Result<LiveSession, sqlx::Error> {
    Ok(LiveSession {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_name")?,
        user: parsed(row, "user_id")?,
        expires_at: time(row, "expires_at")?,
    })
}

fn digest(row: &dyn Row, column: &'static str) -> Result<Option<TokenDigest>, sqlx::Error> {
    let bytes: Option<&[u8]> = get(row, column)?;
    bytes.map(|bytes| bytes.try_into().map_err(|_| malformed(column))).transpose()
}

/// A session that can be used now.
pub(in crate::store) async fn load(
    readers: &mut impl Ask,
    session: &SessionId,
    now: Timestamp,
) -> Result<Loaded<Option<LiveSession>>, sqlx::Error> {
    const LOAD: &str = "SELECT m.epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head, \
             s.id, s.tenant_name, s.user_id, s.expires_at \
         FROM meta m LEFT JOIN standing_sessions s ON s.id = $1 AND s.expires_at > $2";
    let row = readers.one(LOAD, args![session.as_str(), now]).await?;
    let live = match get::<Option<&str>>(&row, "id")? {
        None => None,
        Some(_) => Some(live_session(&row)?),
    };
    loaded(&row, live)
}

/// What sign-in compares with: by id, else by email.
pub(in crate::store) async fn credentials(
    readers: &mut impl Ask,
    tenant: &TenantName,
    login: &str,
) -> Result<Option<Credentials>, sqlx::Error> {
    const FIND: &str = "SELECT u.id, u.kind, u.password, u.status = 'active' AND t.status = 'active' AS active \
         FROM tenants t JOIN users u ON u.tenant = t.no AND u.id = COALESCE( \
             (SELECT id FROM users WHERE tenant = t.no AND id = $2), \
             (SELECT id FROM users WHERE tenant = t.no AND email = $3)) \
         WHERE t.name = $1";
    let row = readers.find(FIND, args![tenant.as_str(), login, login.to_lowercase()]).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Credentials {
        user: parsed(&row, "id")?,
        kind: kind(&row)?,
        active: get(&row, "active")?,
        password: get::<Option<String>>(&row, "password")?.map(crate::domain::operation::PasswordHash),
    }))
}

/// A user's sessions that can be used now, by id.
pub(in crate::store) async fn list(
    readers: &mut impl Ask,
    tenant: &TenantName,
    user: &UserId,
    after: Option<&str>,
    limit: u32,
    now: Timestamp,
) -> Result<Page<SessionRecord>, sqlx::Error> {
    const LIST: &str = "SELECT s.id, s.created_at, s.last_refresh_at, s.address, s.user_agent, s.seen \
         FROM tenants t JOIN users u ON u.tenant = t.no AND u.id = $2 \
             JOIN standing_sessions l ON l.\"user\" = u.no AND l.expires_at > $5 JOIN sessions s ON s.id = l.id \
         WHERE t.name = $1 AND s.id > $3 ORDER BY s.id LIMIT $4";
    let args = args![tenant.as_str(), user.as_str(), after.unwrap_or(""), i64::from(limit) + 1, now];
    let rows = readers.all(LIST, args).await?;
    page(&rows, limit, |row| {
        let record = SessionRecord {
            id: parsed(row, "id")?,
            created_at: time(row, "created_at")?,
            last_refresh_at: maybe_time(row, "last_refresh_at")?.ok_or_else(|| malformed("last_refresh_at"))?,
            address: get(row, "address")?,
            user_agent: get(row, "user_agent")?,
            seq: log::seq(row, "seen")?,
        };
        Ok((record.id.to_string(), record))
    })
}
