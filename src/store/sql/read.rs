//! Snapshots and records, each read in one statement and so in one transaction.

use crate::domain::records::{
    GrantRecord, Granted, Identity, LockdownRecord, Page, RoleRecord, TenantRecord, UserRecord,
};
use crate::domain::{RoleName, RoleNo, TenantName, Timestamp, UserId, UserNo, Version};
use crate::store::{Bound, Loaded, RoleFacts, UserFacts, WholeUser};

use super::facts::{kind, lockdown_record, role_columns, role_record, tenant_record, user_columns, user_record};
use super::log;
use super::statement::{Ask, Row, args, get, grants, json, malformed, maybe_time, parsed};

type Sql<T> = Result<T, sqlx::Error>;

/// With the version that the same statement read.
pub(in crate::store) fn loaded<T>(row: &dyn Row, value: T) -> Sql<Loaded<T>> {
    Ok(Loaded { version: Version { epoch: parsed(row, "epoch")?, seq: log::seq(row, "head")? }, value })
}

/// A page from one row more than its limit.
pub(in crate::store) fn page<T>(
    rows: &[impl Row],
    limit: u32,
    record: impl Fn(&dyn Row) -> Sql<(String, T)>,
) -> Sql<Page<T>> {
    let limit = limit as usize;
    let mut items = Vec::with_capacity(rows.len());
    let mut last = None;
    for row in rows.iter().take(limit) {
        let (key, item) = record(row)?;
        items.push(item);
        last = Some(key);
    }
    Ok(Page { items, next: last.filter(|_| rows.len() > limit) })
}

/// A user's own part of his permissions.
pub(in crate::store) async fn user_facts(
    readers: &mut impl Ask,
    tenant: &TenantName,
    user: &UserId,
    now: Timestamp,
) -> Sql<Loaded<Option<UserFacts>>> {
    const LOAD: &str = "SELECT m.epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head, u.no, u.kind, \
             u.status = 'active' AND t.status = 'active' AS active, \
             (SELECT json_group_array(role) FROM (SELECT g.role FROM user_roles g \
                 JOIN roles r ON r.no = g.role AND r.tenant = u.tenant \
                 WHERE g.\"user\" = u.no AND (g.expires_at IS NULL OR g.expires_at > $3) ORDER BY g.role) own) AS roles, \
             (SELECT json_group_array(permission) FROM (SELECT g.permission FROM user_permissions g \
                 WHERE g.\"user\" = u.no AND (g.expires_at IS NULL OR g.expires_at > $3) ORDER BY g.permission) own) AS grants, \
             (SELECT MIN(expires_at) FROM ( \
                 SELECT expires_at FROM user_roles WHERE \"user\" = u.no AND expires_at > $3 \
                 UNION ALL \
                 SELECT expires_at FROM user_permissions WHERE \"user\" = u.no AND expires_at > $3) own) AS first_expiry \
         FROM meta m LEFT JOIN tenants t ON t.name = $1 LEFT JOIN users u ON u.tenant = t.no AND u.id = $2";
    let row = readers.one(LOAD, args![tenant.as_str(), user.as_str(), now]).await?;
    let facts = match get::<Option<i64>>(&row, "no")? {
        None => None,
        Some(no) => Some(UserFacts {
            no: UserNo(no),
            kind: kind(&row)?,
            active: get(&row, "active")?,
            roles: json::<Vec<i64>>(&row, "roles")?.into_iter().map(RoleNo).collect(),
            grants: grants(&row, "grants")?,
            first_expiry: maybe_time(&row, "first_expiry")?,
        }),
    };
    loaded(&row, facts)
}

/// Whose an identity is. A row of the log that is not there any more was written before the oldest that is.
pub(in crate::store) async fn bound(
    readers: &mut impl Ask,
    tenant: &TenantName,
    identity: &Identity,
    now: Timestamp,
) -> Sql<Loaded<Option<Bound>>> {
    const LOAD: &str = "SELECT m.epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head, u.id, \
             (SELECT COALESCE(c.at, $4) FROM changes c \
                 WHERE c.seq >= u.ended_before AND c.seq >= t.ended_before AND c.seq >= m.ended_before \
                   AND (u.ended_before > 0 OR t.ended_before > 0 OR m.ended_before > 0) ORDER BY c.seq LIMIT 1) AS ended_at \
         FROM meta m LEFT JOIN tenants t ON t.name = $1 AND t.status = 'active' \
             LEFT JOIN identities i ON i.tenant = t.no AND i.issuer = $2 AND i.subject = $3 \
             LEFT JOIN users u ON u.no = i.\"user\" AND u.tenant = t.no AND u.status = 'active'";
    let args = args![tenant.as_str(), identity.issuer.as_str(), identity.subject.as_str(), now];
    let row = readers.one(LOAD, args).await?;
    let bound = match get::<Option<&str>>(&row, "id")? {
        None => None,
        Some(_) => Some(Bound { user: parsed(&row, "id")?, ended_at: maybe_time(&row, "ended_at")? }),
    };
    loaded(&row, bound)
}

/// A role with all that it includes.
pub(in crate::store) async fn role_facts(readers: &mut impl Ask, role: RoleNo) -> Sql<Loaded<Option<RoleFacts>>> {
    const LOAD: &str = "WITH RECURSIVE below(role) AS ( \
             SELECT no FROM roles WHERE no = $1 \
             UNION \
             SELECT r.no FROM below CROSS JOIN role_includes i CROSS JOIN roles r \
                 WHERE i.role = below.role AND r.no = i.other) \
         SELECT m.epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head, t.name AS tenant, \
             (SELECT json_group_array(name) FROM (SELECT r.name FROM below CROSS JOIN roles r WHERE r.no = below.role \
                 ORDER BY r.name) own) AS closure, \
             (SELECT json_group_array(permission) FROM (SELECT DISTINCT p.permission FROM below \
                 JOIN role_permissions p ON p.role = below.role ORDER BY p.permission) own) AS grants \
         FROM meta m LEFT JOIN roles r ON r.no = $1 LEFT JOIN tenants t ON t.no = r.tenant";
    let row = readers.one(LOAD, args![role.0]).await?;
    let facts = match get::<Option<&str>>(&row, "tenant")? {
        None => None,
        Some(_) => Some(RoleFacts {
            tenant: parsed(&row, "tenant")?,
            closure: json(&row, "closure")?,
            grants: grants(&row, "grants")?,
        }),
    };
    loaded(&row, facts)
}

/// A user with his roles, asked for within one read transaction.
pub(in crate::store) async fn whole_user(
    readers: &mut impl Ask,
    tenant: &TenantName,
    user: &UserId,
    now: Timestamp,
) -> Sql<Loaded<Option<WholeUser>>> {
    let Loaded { version, value } = user_facts(readers, tenant, user, now).await?;
    let Some(user) = value else { return Ok(Loaded { version, value: None }) };
    let mut roles = Vec::new();
    for &role in user.roles.iter().filter(|_| user.active) {
        roles.extend(role_facts(readers, role).await?.value);
    }
    Ok(Loaded { version, value: Some(WholeUser { user, roles }) })
}

pub(in crate::store) async fn tenant(readers: &mut impl Ask, tenant: &TenantName) -> Sql<Option<TenantRecord>> {
    const GET: &str = "SELECT name, description, status, created_at FROM tenants WHERE name = $1";
    let row = readers.find(GET, args![tenant.as_str()]).await?;
    row.map(|row| tenant_record(&row)).transpose()
}

pub(in crate::store) async fn tenants(
    readers: &mut impl Ask,
    after: Option<&str>,
    limit: u32,
) -> Sql<Page<TenantRecord>> {
    const LIST: &str = "SELECT name, description, status, created_at FROM tenants \
         WHERE name > $1 ORDER BY name LIMIT $2";
    let rows = readers.all(LIST, args![after.unwrap_or(""), i64::from(limit) + 1]).await?;
    page(&rows, limit, |row| tenant_record(row).map(|record| (record.name.to_string(), record)))
}

pub(in crate::store) async fn user(
    readers: &mut impl Ask,
    tenant: &TenantName,
    user: &UserId,
) -> Sql<Option<UserRecord>> {
    const GET: &str = concat!(
        "SELECT ",
        user_columns!(),
        " FROM tenants t JOIN users u ON u.tenant = t.no AND u.id = $2 WHERE t.name = $1"
    );
    let row = readers.find(GET, args![tenant.as_str(), user.as_str()]).await?;
    row.map(|row| user_record(&row)).transpose()
}

pub(in crate::store) async fn users(
    readers: &mut impl Ask,
    tenant: &TenantName,
    after: Option<&str>,
    limit: u32,
) -> Sql<Page<UserRecord>> {
    const LIST: &str = concat!(
        "SELECT ",
        user_columns!(),
        " FROM tenants t JOIN users u ON u.tenant = t.no WHERE t.name = $1 AND u.id > $2 ORDER BY u.id LIMIT $3"
    );
    let args = args![tenant.as_str(), after.unwrap_or(""), i64::from(limit) + 1];
    let rows = readers.all(LIST, args).await?;
    page(&rows, limit, |row| user_record(row).map(|record| (record.id.to_string(), record)))
}

pub(in crate::store) async fn role(
    readers: &mut impl Ask,
    tenant: &TenantName,
    role: &RoleName,
) -> Sql<Option<RoleRecord>> {
    const GET: &str = concat!(
        "SELECT ",
        role_columns!(),
        " FROM tenants t JOIN roles r ON r.tenant = t.no AND r.name = $2 WHERE t.name = $1"
    );
    let row = readers.find(GET, args![tenant.as_str(), role.as_str()]).await?;
    row.map(|row| role_record(&row)).transpose()
}

pub(in crate::store) async fn roles(
    readers: &mut impl Ask,
    tenant: &TenantName,
    after: Option<&str>,
    limit: u32,
) -> Sql<Page<RoleRecord>> {
    const LIST: &str = concat!(
        "SELECT ",
        role_columns!(),
        " FROM tenants t JOIN roles r ON r.tenant = t.no WHERE t.name = $1 AND r.name > $2 ORDER BY r.name LIMIT $3"
    );
    let args = args![tenant.as_str(), after.unwrap_or(""), i64::from(limit) + 1];
    let rows = readers.all(LIST, args).await?;
    page(&rows, limit, |row| role_record(row).map(|record| (record.name.to_string(), record)))
}

/// A user's direct grants that hold, roles first.
pub(in crate::store) async fn grants_of(
    readers: &mut impl Ask,
    tenant: &TenantName,
    user: &UserId,
    now: Timestamp,
) -> Sql<Option<Vec<GrantRecord>>> {
    const LIST: &str = "WITH them(no) AS ( \
             SELECT u.no FROM tenants t JOIN users u ON u.tenant = t.no AND u.id = $2 WHERE t.name = $1) \
         SELECT given.role, given.permission, given.expires_at FROM them LEFT JOIN ( \
             SELECT r.name AS role, NULL AS permission, g.expires_at \
                 FROM them CROSS JOIN user_roles g CROSS JOIN roles r WHERE g.\"user\" = them.no AND r.no = g.role \
             UNION ALL \
             SELECT NULL, g.permission, g.expires_at FROM them CROSS JOIN user_permissions g WHERE g.\"user\" = them.no) given \
             ON given.expires_at IS NULL OR given.expires_at > $3 \
         ORDER BY given.role IS NULL, given.role, given.permission";
    let rows = readers.all(LIST, args![tenant.as_str(), user.as_str(), now]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut records = Vec::new();
    for row in &rows {
        let granted = match (get::<Option<&str>>(row, "role")?, get::<Option<&str>>(row, "permission")?) {
            (Some(role), _) => Granted::Role(role.parse().map_err(|_| malformed("role"))?),
            // One that is none (written past the API) grants nothing.
            (None, Some(permission)) => match permission.parse() {
                Ok(grant) => Granted::Permission(grant),
                Err(_) => continue,
            },
            (None, None) => continue,
        };
        records.push(GrantRecord { granted, expires_at: maybe_time(row, "expires_at")? });
    }
    Ok(Some(records))
}

/// The earliest time at which something is over.
pub(in crate::store) async fn next_expiry(readers: &mut impl Ask) -> Sql<Option<Timestamp>> {
    const NEXT: &str = "SELECT MIN(at) AS at FROM ( \
             SELECT MIN(expires_at) AS at FROM user_roles WHERE expires_at IS NOT NULL \
             UNION ALL SELECT MIN(expires_at) FROM user_permissions WHERE expires_at IS NOT NULL \
             UNION ALL SELECT until FROM lockdown \
             UNION ALL SELECT MIN(retire_at) FROM keys WHERE state = 'previous') ends";
    maybe_time(&readers.one(NEXT, vec![]).await?, "at")
}

/// The lockdown in force.
pub(in crate::store) async fn lockdown(readers: &mut impl Ask, now: Timestamp) -> Sql<Option<LockdownRecord>> {
    const GET: &str = "SELECT tenant, retry_after_s, since, until FROM lockdown WHERE until IS NULL OR until > $1";
    let row = readers.find(GET, args![now]).await?;
    row.map(|row| lockdown_record(&row, "tenant")).transpose()
}
