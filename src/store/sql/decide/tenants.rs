//! Tenants and the lockdown.

use crate::domain::operation::{NewLockdown, NewTenant, Resource, TenantPatch};
use crate::domain::records::{LockdownRecord, Status, TenantRecord};
use crate::domain::rules::Refusal;
use crate::domain::{TenantName, Timestamp};

use super::super::facts::TenantFacts;
use super::super::statement::args;
use super::super::writer::operation;
use super::{Decided, Plan};

pub(in crate::store) fn create_tenant(facts: &TenantFacts, new: &NewTenant, now: Timestamp) -> Decided {
    if facts.tenant.is_some() {
        return Err(Refusal::Exists(format!("the tenant {:?}", new.name.as_str())));
    }
    let record = TenantRecord {
        name: new.name.clone(),
        description: new.description.clone(),
        status: new.status,
        created_at: now,
    };
    Ok(Plan::script(
        operation!("INSERT INTO tenants (name, description, status, created_at) VALUES ($5, $6, $7, $8)"),
        args![new.name.as_str(), new.description.as_str(), new.status.as_str(), now],
        Resource::Tenant(record),
    ))
}

pub(in crate::store) fn patch_tenant(facts: &TenantFacts, patch: &TenantPatch) -> Decided {
    let old = facts.tenant.as_ref().ok_or(Refusal::UnknownTenant)?;
    let mut new = old.clone();
    if let Some(description) = &patch.description {
        new.description.clone_from(description);
    }
    new.status = patch.status.unwrap_or(new.status);
    if new == *old {
        return Ok(Plan::nothing(Resource::Tenant(new)));
    }
    let suspends = new.status != old.status && new.status == Status::Suspended;
    Ok(Plan::script(
        operation!("UPDATE tenants SET description = $6, status = $7 WHERE name = $5"),
        args![new.name.as_str(), new.description.as_str(), new.status.as_str()],
        Resource::Tenant(new),
    )
    .losing_operator_if(suspends))
}

pub(in crate::store) fn delete_tenant(facts: &TenantFacts, name: &TenantName) -> Decided {
    if *name == TenantName::first() {
        return Err(Refusal::FirstTenant);
    }
    facts.tenant.as_ref().ok_or(Refusal::UnknownTenant)?;
    let sql = operation!("DELETE FROM tenants WHERE name = $5");
    Ok(Plan::script(sql, args![name.as_str()], Resource::Nothing).losing_operator_if(true))
}

/// Always a change, as for a user.
pub(in crate::store) fn end_tenant_sessions(facts: &TenantFacts, name: &TenantName) -> Decided {
    facts.tenant.as_ref().ok_or(Refusal::UnknownTenant)?;
    let sql = operation!("UPDATE tenants SET sign_outs = sign_outs + 1 WHERE name = $5");
    Ok(Plan::script(sql, args![name.as_str()], Resource::Nothing))
}

pub(in crate::store) fn set_lockdown(facts: &TenantFacts, new: Option<&NewLockdown>, now: Timestamp) -> Decided {
    let in_force = facts.lockdown.as_ref().filter(|old| old.until.is_none_or(|until| until > now));
    let Some(new) = new else {
        return Ok(match &facts.lockdown {
            None => Plan::nothing(Resource::Lockdown(None)),
            Some(_) => Plan::script(operation!("DELETE FROM lockdown"), args![], Resource::Lockdown(None)),
        });
    };
    if new.tenant.is_some() && facts.tenant.is_none() {
        return Err(Refusal::UnknownTenant);
    }
    if let Some(old) = in_force
        && old.tenant == new.tenant
        && old.retry_after_s == new.retry_after_s
        && old.until == new.until
    {
        return Ok(Plan::nothing(Resource::Lockdown(Some(old.clone()))));
    }
    let record =
        LockdownRecord { tenant: new.tenant.clone(), retry_after_s: new.retry_after_s, since: now, until: new.until };
    Ok(Plan::script(
        operation!(
            "UPDATE lockdown SET tenant = $5, retry_after_s = $6, since = $7, until = $8",
            "INSERT INTO lockdown (tenant, retry_after_s, since, until) SELECT $5, $6, $7, $8 \
                 WHERE NOT EXISTS (SELECT 1 FROM lockdown)"
        ),
        args![new.tenant.as_ref().map(TenantName::as_str), i64::from(new.retry_after_s), now, new.until],
        Resource::Lockdown(Some(record)),
    ))
}
