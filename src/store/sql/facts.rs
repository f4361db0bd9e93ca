//! What a decision is made from: one statement an operation, read under the writer's lock.
//!
//! CROSS JOIN is SQLite's way to say that the tables are to be gone through in this order: from the few rows that are asked
//! for to the many that are stored. PostgreSQL finds its own order, and asks for what is compared to stand under WHERE.

use crate::domain::operation::PasswordHash;
use crate::domain::records::{Identity, LockdownRecord, RoleRecord, Status, TenantRecord, UserKind, UserRecord};
use crate::domain::rules::{Refusal, Rights};
use crate::domain::{Actor, Grant, PermissionSet, RoleName, Seq, TenantName, Timestamp, UserId};

use super::log;
use super::statement::{Arg, Row, args, get, grants, json, malformed, maybe_parsed, maybe_time, parsed, time};

/// Who acts and what he holds of what is reserved. Arguments: 1 his tenant, 2 his id, 3 his session, or an array of the
/// issuer and subject of his identity and the position as of which his token held, 4 the time, 5 the tenant that the
/// operation is about. The LIMIT takes nothing away: it tells PostgreSQL that he is one, which makes room for hundreds of
/// thousands of his roles otherwise, each time.
macro_rules! with_actor {
    () => {
        "WITH RECURSIVE \
         me(no) AS (SELECT \"user\" FROM standing_sessions \
             WHERE id = $3 AND tenant_name = $1 AND user_id = $2 AND expires_at > $4 \
             UNION ALL \
             SELECT u.no FROM (SELECT CASE WHEN $3 LIKE '[%' THEN $3 END AS token) given CROSS JOIN meta m \
                 CROSS JOIN tenants t CROSS JOIN users u CROSS JOIN identities i \
             WHERE token IS NOT NULL AND t.name = $1 AND u.tenant = t.no AND u.id = $2 \
               AND i.tenant = t.no AND i.issuer = json_extract(token, '$[0]') \
               AND i.subject = json_extract(token, '$[1]') AND i.\"user\" = u.no \
               AND t.status = 'active' AND u.status = 'active' \
               AND CAST(json_extract(token, '$[2]') AS BIGINT) >= u.ended_before \
               AND CAST(json_extract(token, '$[2]') AS BIGINT) >= t.ended_before \
               AND CAST(json_extract(token, '$[2]') AS BIGINT) >= m.ended_before LIMIT 1), \
         mine(role) AS ( \
             SELECT r.no FROM me CROSS JOIN user_roles g CROSS JOIN roles r \
                 WHERE g.\"user\" = me.no AND r.no = g.role AND (g.expires_at IS NULL OR g.expires_at > $4) \
             UNION \
             SELECT r.no FROM mine CROSS JOIN role_includes i CROSS JOIN roles r \
                 WHERE i.role = mine.role AND r.no = i.other), \
         place(no) AS (SELECT no FROM tenants WHERE name = $5)"
    };
}

macro_rules! actor_columns {
    () => {
        " (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head, \
         (SELECT no FROM me) AS me, \
         (SELECT json_group_array(permission) FROM ( \
             SELECT p.permission FROM me CROSS JOIN user_permissions p WHERE p.\"user\" = me.no \
                 AND p.permission >= 'permcast:' AND p.permission < 'permcast;' \
                 AND (p.expires_at IS NULL OR p.expires_at > $4) \
             UNION ALL \
             SELECT p.permission FROM mine CROSS JOIN role_permissions p WHERE p.role = mine.role \
                 AND p.permission >= 'permcast:' AND p.permission < 'permcast;') reserved) AS rights, \
         (SELECT no FROM place) AS place "
    };
}

/// The columns of a user's record. His identities are two lists in the same order.
macro_rules! user_columns {
    () => {
        " u.id, u.name, u.email, u.kind, u.status, u.password, u.created_at, \
         (SELECT json_group_array(issuer) FROM (SELECT issuer FROM identities WHERE \"user\" = u.no \
             ORDER BY issuer, subject) own) AS issuers, \
         (SELECT json_group_array(subject) FROM (SELECT subject FROM identities WHERE \"user\" = u.no \
             ORDER BY issuer, subject) own) AS subjects "
    };
}
pub(in crate::store) use user_columns;

/// The columns of a role's record.
macro_rules! role_columns {
    () => {
        " r.name, r.description, r.created_at, \
         (SELECT json_group_array(permission) FROM (SELECT permission FROM role_permissions WHERE role = r.no \
             ORDER BY permission) own) AS permissions, \
         (SELECT json_group_array(name) FROM (SELECT o.name FROM role_includes i JOIN roles o ON o.no = i.other \
             WHERE i.role = r.no ORDER BY o.name) own) AS includes "
    };
}
pub(in crate::store) use role_columns;

/// What is true of every operation.
#[derive(Debug)]
pub(in crate::store) struct Common {
    /// The log's head.
    pub(in crate::store) head: Seq,
    /// What the actor may do; `None`: his session is over.
    pub(in crate::store) rights: Option<Rights>,
    /// The number of the tenant that the operation is about.
    pub(in crate::store) place: Option<i64>,
}

/// The arguments that say who acts, and where.
fn common_args(actor: &Actor, now: Timestamp, place: Option<&TenantName>) -> Vec<Arg> {
    let place = place.map(TenantName::as_str);
    match actor {
        Actor::User { tenant, user, session, .. } => {
            args![tenant.as_str(), user.as_str(), session.as_str(), now, place]
        }
        Actor::Bearer { tenant, user, identity, as_of, .. } => {
            let token = serde_json::json!([identity.issuer, identity.subject, as_of]).to_string();
            args![tenant.as_str(), user.as_str(), token, now, place]
        }
        Actor::Provisioning | Actor::System(_) => args![None::<&str>, None::<&str>, None::<&str>, now, place],
    }
}

fn common(actor: &Actor, row: &dyn Row) -> Result<Common, sqlx::Error> {
    let rights = match actor {
        Actor::System(_) => Some(Rights::System),
        Actor::Provisioning => Some(Rights::Provisioning),
        Actor::User { tenant, .. } | Actor::Bearer { tenant, .. } if get::<Option<i64>>(row, "me")?.is_some() => {
            let permissions: PermissionSet = grants(row, "rights")?.into_iter().collect();
            Some(Rights::User { tenant: tenant.clone(), permissions })
        }
        Actor::User { .. } | Actor::Bearer { .. } => None,
    };
    Ok(Common { head: log::seq(row, "head")?, rights, place: get(row, "place")? })
}

/// A statement and its arguments.
pub(in crate::store) type Question = (&'static str, Vec<Arg>);

/// Facts for operations on tenants, the lockdown and the keys.
#[derive(Debug)]
pub(in crate::store) struct TenantFacts {
    pub(in crate::store) tenant: Option<TenantRecord>,
    pub(in crate::store) lockdown: Option<LockdownRecord>,
}

impl TenantFacts {
    pub(in crate::store) fn question(actor: &Actor, now: Timestamp, place: Option<&TenantName>) -> Question {
        const SQL: &str = concat!(
            with_actor!(),
            " SELECT ",
            actor_columns!(),
            ", t.name, t.description, t.status, t.created_at, \
             l.one AS locked, l.tenant AS lock_tenant, l.retry_after_s, l.since, l.until \
             FROM (SELECT 1) one LEFT JOIN tenants t ON t.name = $5 LEFT JOIN lockdown l ON TRUE"
        );
        (SQL, common_args(actor, now, place))
    }

    pub(in crate::store) fn read(actor: &Actor, row: &dyn Row) -> Result<(Common, Self), sqlx::Error> {
        let common = common(actor, row)?;
        let tenant = common.place.map(|_| tenant_record(row)).transpose()?;
        let lockdown = get::<Option<i64>>(row, "locked")?.map(|_| lockdown_record(row, "lock_tenant")).transpose()?;
        Ok((common, Self { tenant, lockdown }))
    }
}

/// A user as it stands before an operation on it.
#[derive(Debug)]
pub(in crate::store) struct UserRow {
    pub(in crate::store) no: i64,
    pub(in crate::store) record: UserRecord,
    pub(in crate::store) password: Option<PasswordHash>,
    /// The reserved permissions that he holds, directly or through roles.
    pub(in crate::store) bears: Vec<Grant>,
}

/// How a session named by an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum SessionState {
    /// There is none of this user.
    Unknown,
    Over,
    Live,
}

/// Facts for operations on users and their sessions.
#[derive(Debug)]
pub(in crate::store) struct UserFacts {
    pub(in crate::store) user: Option<UserRow>,
    /// The email that is asked for is another's.
    pub(in crate::store) email_taken: bool,
    /// The subject of an identity that is asked for and is another's.
    pub(in crate::store) identity_taken: Option<String>,
    /// When the last user of this id left.
    pub(in crate::store) left_at: Option<Timestamp>,
    pub(in crate::store) session: SessionState,
}

/// What a question about a user is about, beside him.
#[derive(Default)]
pub(in crate::store) struct Wanted<'a> {
    pub(in crate::store) email: Option<&'a str>,
    pub(in crate::store) identities: &'a [Identity],
    pub(in crate::store) session: Option<&'a str>,
}

impl UserFacts {
    pub(in crate::store) fn question(
        actor: &Actor,
        now: Timestamp,
        place: &TenantName,
        user: &UserId,
        wanted: &Wanted<'_>,
    ) -> Question {
        const SQL: &str = concat!(
            with_actor!(),
            ", them AS (SELECT u.no FROM place CROSS JOIN users u WHERE u.tenant = place.no AND u.id = $6), \
             theirs(role) AS ( \
                 SELECT r.no FROM them CROSS JOIN user_roles g CROSS JOIN roles r \
                     WHERE g.\"user\" = them.no AND r.no = g.role AND (g.expires_at IS NULL OR g.expires_at > $4) \
                 UNION \
                 SELECT r.no FROM theirs CROSS JOIN role_includes i CROSS JOIN roles r \
                     WHERE i.role = theirs.role AND r.no = i.other) \
             SELECT ",
            actor_columns!(),
            ", u.no, ",
            user_columns!(),
            ", (SELECT json_group_array(permission) FROM ( \
                 SELECT p.permission FROM them CROSS JOIN user_permissions p WHERE p.\"user\" = them.no \
                     AND p.permission >= 'permcast:' AND p.permission < 'permcast;' \
                     AND (p.expires_at IS NULL OR p.expires_at > $4) \
                 UNION ALL \
                 SELECT p.permission FROM theirs CROSS JOIN role_permissions p WHERE p.role = theirs.role \
                     AND p.permission >= 'permcast:' AND p.permission < 'permcast;') reserved) AS bears, \
             EXISTS (SELECT 1 FROM place CROSS JOIN users o \
                 WHERE o.tenant = place.no AND o.email = $7 AND o.id <> $6) AS email_taken, \
             (SELECT i.subject FROM place CROSS JOIN json_each($8) j CROSS JOIN identities i WHERE i.tenant = place.no \
                 AND i.issuer = json_extract(j.value, '$.issuer') AND i.subject = json_extract(j.value, '$.subject') \
                 AND i.\"user\" IS DISTINCT FROM (SELECT no FROM them) LIMIT 1) AS identity_taken, \
             (SELECT left_at FROM departed WHERE tenant = $5 AND id = $6) AS left_at, \
             (SELECT EXISTS (SELECT 1 FROM standing_sessions l WHERE l.id = s.id) \
                 FROM sessions s WHERE s.id = $9 AND s.\"user\" = (SELECT no FROM them)) AS session_lives \
             FROM (SELECT 1) one LEFT JOIN users u ON u.tenant = (SELECT no FROM place) AND u.id = $6"
        );
        let mut all = common_args(actor, now, Some(place));
        let identities = (!wanted.identities.is_empty()).then(|| identities_json(wanted.identities));
        all.extend(args![user.as_str(), wanted.email, identities, wanted.session]);
        (SQL, all)
    }

    pub(in crate::store) fn read(actor: &Actor, row: &dyn Row) -> Result<(Common, Self), sqlx::Error> {
        let user = match get::<Option<i64>>(row, "no")? {
            None => None,
            Some(no) => Some(UserRow {
                no,
                record: user_record(row)?,
                password: get::<Option<String>>(row, "password")?.map(PasswordHash),
                bears: grants(row, "bears")?,
            }),
        };
        let facts = Self {
            user,
            email_taken: get(row, "email_taken")?,
            identity_taken: get(row, "identity_taken")?,
            left_at: maybe_time(row, "left_at")?,
            session: match get::<Option<bool>>(row, "session_lives")? {
                None => SessionState::Unknown,
                Some(false) => SessionState::Over,
                Some(true) => SessionState::Live,
            },
        };
        Ok((common(actor, row)?, facts))
    }
}

/// A grant that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Standing {
    pub(in crate::store) expires_at: Option<Timestamp>,
}

/// Facts for giving and taking.
#[derive(Debug)]
pub(in crate::store) struct GrantFacts {
    pub(in crate::store) user: Option<i64>,
    pub(in crate::store) role: Option<i64>,
    /// The reserved permissions that the role gives.
    pub(in crate::store) bears: Vec<Grant>,
    /// The grant as it stands, if it does.
    pub(in crate::store) stands: Option<Standing>,
    /// How many grants the user has.
    pub(in crate::store) count: i64,
}

impl GrantFacts {
    pub(in crate::store) fn question(
        actor: &Actor,
        now: Timestamp,
        place: &TenantName,
        user: &UserId,
        role: Option<&RoleName>,
        permission: Option<&Grant>,
    ) -> Question {
        const SQL: &str = concat!(
            with_actor!(),
            ", them(no) AS (SELECT u.no FROM place CROSS JOIN users u WHERE u.tenant = place.no AND u.id = $6), \
             it(no) AS (SELECT r.no FROM place CROSS JOIN roles r WHERE r.tenant = place.no AND r.name = $7), \
             below(role) AS ( \
                 SELECT no FROM it \
                 UNION \
                 SELECT r.no FROM below CROSS JOIN role_includes i CROSS JOIN roles r \
                     WHERE i.role = below.role AND r.no = i.other) \
             SELECT ",
            actor_columns!(),
            ", (SELECT no FROM them) AS \"user\", (SELECT no FROM it) AS role, \
             (SELECT json_group_array(p.permission) FROM below CROSS JOIN role_permissions p WHERE p.role = below.role \
                 AND p.permission >= 'permcast:' AND p.permission < 'permcast;') AS bears, \
             (SELECT count(*) FROM user_roles g WHERE g.\"user\" = (SELECT no FROM them)) \
                 + (SELECT count(*) FROM user_permissions g WHERE g.\"user\" = (SELECT no FROM them)) AS count, \
             standing.\"user\" AS stands, standing.expires_at \
             FROM (SELECT 1) one LEFT JOIN ( \
                 SELECT g.\"user\", g.expires_at FROM user_roles g \
                     WHERE g.\"user\" = (SELECT no FROM them) AND g.role = (SELECT no FROM it) \
                 UNION ALL \
                 SELECT g.\"user\", g.expires_at FROM user_permissions g \
                     WHERE g.\"user\" = (SELECT no FROM them) AND g.permission = $8) standing ON TRUE"
        );
        let mut all = common_args(actor, now, Some(place));
        all.extend(args![user.as_str(), role.map(RoleName::as_str), permission.map(Grant::as_str)]);
        (SQL, all)
    }

    pub(in crate::store) fn read(actor: &Actor, row: &dyn Row) -> Result<(Common, Self), sqlx::Error> {
        let stands = match get::<Option<i64>>(row, "stands")? {
            None => None,
            Some(_) => Some(Standing { expires_at: maybe_time(row, "expires_at")? }),
        };
        let facts = Self {
            user: get(row, "user")?,
            role: get(row, "role")?,
            bears: grants(row, "bears")?,
            stands,
            count: get(row, "count")?,
        };
        Ok((common(actor, row)?, facts))
    }
}

/// Facts for operations on roles.
#[derive(Debug)]
pub(in crate::store) struct RoleFacts {
    pub(in crate::store) role: Option<(i64, RoleRecord)>,
    /// Those of the roles that the operation names which exist.
    pub(in crate::store) known: Vec<RoleName>,
    /// Whether the role is reached from one of them.
    pub(in crate::store) loops: bool,
    /// The reserved permissions that the role gives, and those that the named roles give.
    pub(in crate::store) bears: Vec<Grant>,
}

impl RoleFacts {
    pub(in crate::store) fn question(
        actor: &Actor,
        now: Timestamp,
        place: &TenantName,
        role: &RoleName,
        named: &[RoleName],
    ) -> Question {
        const SQL: &str = concat!(
            with_actor!(),
            ", it(no) AS (SELECT r.no FROM place CROSS JOIN roles r WHERE r.tenant = place.no AND r.name = $6), \
             named(no, name) AS (SELECT r.no, r.name FROM place CROSS JOIN json_each($7) j CROSS JOIN roles r \
                 WHERE r.tenant = place.no AND r.name = j.value), \
             below(role) AS ( \
                 SELECT no FROM it \
                 UNION \
                 SELECT r.no FROM below CROSS JOIN role_includes i CROSS JOIN roles r \
                     WHERE i.role = below.role AND r.no = i.other), \
             beneath(role) AS ( \
                 SELECT no FROM named \
                 UNION \
                 SELECT r.no FROM beneath CROSS JOIN role_includes i CROSS JOIN roles r \
                     WHERE i.role = beneath.role AND r.no = i.other) \
             SELECT ",
            actor_columns!(),
            ", r.no, ",
            role_columns!(),
            ", (SELECT json_group_array(name) FROM named) AS known, \
             EXISTS (SELECT 1 FROM beneath WHERE role = r.no) AS loops, \
             (SELECT json_group_array(p.permission) FROM ( \
                 SELECT role FROM below UNION SELECT role FROM beneath) b CROSS JOIN role_permissions p \
                 WHERE p.role = b.role AND p.permission >= 'permcast:' AND p.permission < 'permcast;') AS bears \
             FROM (SELECT 1) one LEFT JOIN roles r ON r.no = (SELECT no FROM it)"
        );
        let mut all = common_args(actor, now, Some(place));
        all.extend(args![role.as_str(), names_json(named.iter().map(RoleName::as_str))]);
        (SQL, all)
    }

    pub(in crate::store) fn read(actor: &Actor, row: &dyn Row) -> Result<(Common, Self), sqlx::Error> {
        let role = match get::<Option<i64>>(row, "no")? {
            None => None,
            Some(no) => Some((no, role_record(row)?)),
        };
        let known: Vec<String> = json(row, "known")?;
        let facts = Self {
            role,
            known: known.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(|_| malformed("known"))?,
            loops: get(row, "loops")?,
            bears: grants(row, "bears")?,
        };
        Ok((common(actor, row)?, facts))
    }
}

impl Common {
    /// The tenant's number, for an actor who may act there.
    pub(in crate::store) fn entered(&self, tenant: Option<&TenantName>) -> Result<(&Rights, Option<i64>), Refusal> {
        let rights = self.rights.as_ref().ok_or(Refusal::SessionOver)?;
        rights.may_act(tenant)?;
        if tenant.is_some() && self.place.is_none() {
            return Err(Refusal::UnknownTenant);
        }
        Ok((rights, self.place))
    }
}

/// A list of names as a statement's argument.
pub(in crate::store) fn names_json<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<serde_json::Value>().to_string()
}

/// Identities as a statement's argument.
pub(in crate::store) fn identities_json(identities: &[Identity]) -> String {
    serde_json::to_string(identities).expect("identities are plain text")
}

/// The row as a tenant.
pub(in crate::store) fn tenant_record(row: &dyn Row) -> Result<TenantRecord, sqlx::Error> {
    Ok(TenantRecord {
        name: parsed(row, "name")?,
        description: get(row, "description")?,
        status: status(row)?,
        created_at: time(row, "created_at")?,
    })
}

/// The row as a user.
pub(in crate::store) fn user_record(row: &dyn Row) -> Result<UserRecord, sqlx::Error> {
    Ok(UserRecord {
        id: parsed(row, "id")?,
        name: get(row, "name")?,
        email: get(row, "email")?,
        kind: kind(row)?,
        status: status(row)?,
        identities: identities(row)?,
        has_password: get::<Option<&str>>(row, "password")?.is_some(),
        created_at: time(row, "created_at")?,
    })
}

fn identities(row: &dyn Row) -> Result<Vec<Identity>, sqlx::Error> {
    let (issuers, subjects): (Vec<String>, Vec<String>) = (json(row, "issuers")?, json(row, "subjects")?);
    Ok(issuers.into_iter().zip(subjects).map(|(issuer, subject)| Identity { issuer, subject }).collect())
}

/// The row as a role.
pub(in crate::store) fn role_record(row: &dyn Row) -> Result<RoleRecord, sqlx::Error> {
    Ok(RoleRecord {
        name: parsed(row, "name")?,
        description: get(row, "description")?,
        permissions: grants(row, "permissions")?,
        includes: json(row, "includes")?,
        created_at: time(row, "created_at")?,
    })
}

/// The row as a lockdown.
pub(in crate::store) fn lockdown_record(row: &dyn Row, tenant: &'static str) -> Result<LockdownRecord, sqlx::Error> {
    Ok(LockdownRecord {
        tenant: maybe_parsed(row, tenant)?,
        retry_after_s: get(row, "retry_after_s")?,
        since: time(row, "since")?,
        until: maybe_time(row, "until")?,
    })
}

fn status(row: &dyn Row) -> Result<Status, sqlx::Error> {
    match get::<&str>(row, "status")? {
        "active" => Ok(Status::Active),
        "suspended" => Ok(Status::Suspended),
        _ => Err(malformed("status")),
    }
}

/// The column `kind` of a user.
pub(in crate::store) fn kind(row: &dyn Row) -> Result<UserKind, sqlx::Error> {
    match get::<&str>(row, "kind")? {
        "person" => Ok(UserKind::Person),
        "service" => Ok(UserKind::Service),
        _ => Err(malformed("kind")),
    }
}
