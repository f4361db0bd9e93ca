//! A unit: operations done together or not at all.

use crate::domain::limits::EXPIRED_AT_ONCE;
use crate::domain::operation::Operation;
use crate::domain::rules::{Refusal, Rights};
use crate::domain::{Actor, Change, Seq, Unit};
use crate::store::{Outcome, Written};

use super::decide::{self, Plan, RoleEdit, Thing};
use super::facts::{Common, GrantFacts, Question, RoleFacts, TenantFacts, UserFacts, Wanted};
use super::statement::{args, get};
use super::writer::{Fault, Script, Transaction, Work, operation};

/// Whether an active user of an active tenant holds `permcast:operator` without expiry.
pub(in crate::store) const HAS_OPERATOR: &str = "WITH RECURSIVE \
     giving(role) AS ( \
         SELECT role FROM role_permissions WHERE permission = 'permcast:operator' \
         UNION \
         SELECT i.role FROM giving CROSS JOIN role_includes i WHERE i.other = giving.role), \
     holding(\"user\") AS ( \
         SELECT \"user\" FROM user_permissions WHERE permission = 'permcast:operator' AND expires_at IS NULL \
         UNION ALL \
         SELECT g.\"user\" FROM giving CROSS JOIN roles r CROSS JOIN user_roles g \
             WHERE r.no = giving.role AND g.role = r.no AND g.expires_at IS NULL) \
     SELECT EXISTS (SELECT 1 FROM holding CROSS JOIN users u CROSS JOIN tenants t \
         WHERE u.no = holding.\"user\" AND u.status = 'active' AND t.no = u.tenant AND t.status = 'active') AS found";

impl Work for Unit {
    type Answer = Written;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Written, Fault> {
        let mut written =
            Written { version: transaction.version(Seq::ZERO), changes: Vec::new(), outcomes: Vec::new() };
        // What the actor may do is read with the facts of the first operation, and decided once.
        let mut rights: Option<Rights> = None;
        let many = self.operations.len() > 1;
        if many {
            transaction.begin_unit()?;
        }
        for (index, operation) in self.operations.iter().enumerate() {
            let refused = |refusal| Fault::Refused { index, refusal };
            let decision = decide(transaction, &self.actor, &mut rights, operation)?;
            let (head, plan) = (decision.head, decision.plan.map_err(refused)?);
            written.version.seq = head;
            let mut made: Vec<Change> = Vec::new();
            if let Some(script) = plan.script {
                let had_operator = plan.may_lose_operator && has_operator(transaction)?;
                if had_operator {
                    transaction.begin_unit()?;
                }
                made = transaction.operate(&self.actor, script)?;
                if had_operator && !has_operator(transaction)? {
                    return Err(refused(Refusal::LastOperator));
                }
            }
            written.outcomes.push(Outcome { resource: plan.resource, change: made.last().map(|change| change.seq) });
            written.changes.extend(made);
        }
        transaction.end_unit()?;
        if let Some(last) = written.changes.last() {
            written.version.seq = last.seq;
        } else if self.operations.is_empty() {
            written.version.seq = transaction.head()?;
        }
        Ok(written)
    }
}

fn has_operator(transaction: &mut Transaction<'_>) -> Result<bool, sqlx::Error> {
    get(&transaction.one(HAS_OPERATOR, vec![])?, "found")
}

struct Decision {
    head: Seq,
    plan: Result<Plan, Refusal>,
}

/// A place that was entered is there.
fn number(place: Option<i64>) -> Result<i64, Refusal> {
    place.ok_or(Refusal::UnknownTenant)
}

/// Reads what an operation is decided from, and decides it.
fn decide(
    transaction: &mut Transaction<'_>,
    actor: &Actor,
    rights: &mut Option<Rights>,
    operation: &Operation,
) -> Result<Decision, sqlx::Error> {
    use Operation as Op;
    let now = transaction.now;
    let id_rest = transaction.options.id_rest;
    // The actor is looked up once a unit.
    let system = Actor::System("");
    let asker = if rights.is_some() { &system } else { actor };

    /// Asks, and has the answer decided.
    macro_rules! asked {
        ($facts:ident, $question:expr, |$r:ident, $place:ident, $f:ident| $decision:expr) => {{
            let (sql, args): Question = $question;
            let row = transaction.one(sql, args)?;
            let (mut common, facts): (Common, $facts) = $facts::read(asker, &row)?;
            if let Some(known) = rights.clone() {
                common.rights = Some(known);
            }
            let plan = common.entered(operation.tenant()).and_then(|($r, $place)| {
                let $f = &facts;
                $decision
            });
            *rights = common.rights.take();
            Ok(Decision { head: common.head, plan })
        }};
    }
    match operation {
        Op::CreateTenant(new) => {
            asked!(TenantFacts, TenantFacts::question(asker, now, Some(&new.name)), |_r, _p, f| {
                decide::create_tenant(f, new, now)
            })
        }
        Op::PatchTenant { tenant, patch } => {
            asked!(TenantFacts, TenantFacts::question(asker, now, Some(tenant)), |_r, _p, f| {
                decide::patch_tenant(f, patch)
            })
        }
        Op::DeleteTenant { tenant } => {
            asked!(TenantFacts, TenantFacts::question(asker, now, Some(tenant)), |_r, _p, f| {
                decide::delete_tenant(f, tenant)
            })
        }
        Op::EndTenantSessions { tenant } => {
            asked!(TenantFacts, TenantFacts::question(asker, now, Some(tenant)), |_r, _p, f| {
                decide::end_tenant_sessions(f, tenant)
            })
        }
        Op::SetLockdown(new) => {
            let place = new.as_ref().and_then(|new| new.tenant.as_ref());
            asked!(TenantFacts, TenantFacts::question(asker, now, place), |_r, _p, f| {
                decide::set_lockdown(f, new.as_ref(), now)
            })
        }
        Op::CreateUser { tenant, user } => {
            let email = user.email.as_ref().map(|email| email.to_lowercase());
            let wanted = Wanted { email: email.as_deref(), identities: &user.identities, session: None };
            asked!(UserFacts, UserFacts::question(asker, now, tenant, &user.id, &wanted), |_r, place, f| {
                decide::create_user(number(place)?, f, user, now, id_rest)
            })
        }
        Op::PatchUser { tenant, user, patch } => {
            let email = patch.email.as_ref().and_then(Option::as_ref).map(|email| email.to_lowercase());
            let identities = patch.identities.as_deref().unwrap_or_default();
            let wanted = Wanted { email: email.as_deref(), identities, session: None };
            asked!(UserFacts, UserFacts::question(asker, now, tenant, user, &wanted), |r, _p, f| {
                decide::patch_user(r, f, user, patch)
            })
        }
        Op::DeleteUser { tenant, user } => {
            let wanted = Wanted::default();
            asked!(UserFacts, UserFacts::question(asker, now, tenant, user, &wanted), |r, _p, f| {
                decide::delete_user(r, f, user)
            })
        }
        Op::EndSession { tenant, user, session } => {
            let wanted = Wanted { session: Some(session.as_str()), ..Wanted::default() };
            asked!(UserFacts, UserFacts::question(asker, now, tenant, user, &wanted), |r, _p, f| {
                decide::end_session(r, f, user, session, now)
            })
        }
        Op::EndSessions { tenant, user } => {
            let wanted = Wanted::default();
            asked!(UserFacts, UserFacts::question(asker, now, tenant, user, &wanted), |r, _p, f| {
                decide::end_sessions(r, f, user)
            })
        }
        Op::GrantRole { tenant, user, role, expires_at } => {
            asked!(GrantFacts, GrantFacts::question(asker, now, tenant, user, Some(role), None), |r, _p, f| {
                decide::grant(r, f, user, Thing::Role(role), *expires_at)
            })
        }
        Op::RevokeRole { tenant, user, role } => {
            asked!(GrantFacts, GrantFacts::question(asker, now, tenant, user, Some(role), None), |r, _p, f| {
                decide::revoke(r, f, user, Thing::Role(role))
            })
        }
        Op::GrantPermission { tenant, user, permission, expires_at } => {
            asked!(GrantFacts, GrantFacts::question(asker, now, tenant, user, None, Some(permission)), |r, _p, f| {
                decide::grant(r, f, user, Thing::Permission(permission), *expires_at)
            })
        }
        Op::RevokePermission { tenant, user, permission } => {
            asked!(GrantFacts, GrantFacts::question(asker, now, tenant, user, None, Some(permission)), |r, _p, f| {
                decide::revoke(r, f, user, Thing::Permission(permission))
            })
        }
        Op::CreateRole { tenant, role } => {
            asked!(RoleFacts, RoleFacts::question(asker, now, tenant, &role.name, &role.includes), |r, place, f| {
                decide::create_role(r, number(place)?, f, role, now)
            })
        }
        Op::DeleteRole { tenant, role } => {
            asked!(RoleFacts, RoleFacts::question(asker, now, tenant, role, &[]), |r, _p, f| {
                decide::delete_role(r, f, role)
            })
        }
        Op::PatchRole { tenant, role, .. }
        | Op::AddRolePermission { tenant, role, .. }
        | Op::RemoveRolePermission { tenant, role, .. }
        | Op::AddInclude { tenant, role, .. }
        | Op::RemoveInclude { tenant, role, .. } => {
            let edit = match operation {
                Op::PatchRole { patch, .. } => RoleEdit::Patch(patch),
                Op::AddRolePermission { permission, .. } => RoleEdit::AddPermission(permission),
                Op::RemoveRolePermission { permission, .. } => RoleEdit::RemovePermission(permission),
                Op::AddInclude { other, .. } => RoleEdit::AddInclude(other),
                Op::RemoveInclude { other, .. } => RoleEdit::RemoveInclude(other),
                _ => unreachable!("the arms above are those of the outer match"),
            };
            asked!(RoleFacts, RoleFacts::question(asker, now, tenant, role, edit.named()), |r, _p, f| {
                decide::edit_role(r, f, role, edit)
            })
        }
    }
}

/// Deletes what is over, so much at once.
pub(in crate::store) struct DeleteExpired;

impl Work for DeleteExpired {
    type Answer = Written;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Written, Fault> {
        let rest = i64::try_from(transaction.options.id_rest.as_millis()).unwrap_or(i64::MAX);
        let now = transaction.now;
        let script = Script {
            sql: operation!(
                "DELETE FROM user_roles WHERE (\"user\", role) IN ( \
                     SELECT \"user\", role FROM user_roles WHERE expires_at <= $5 ORDER BY expires_at LIMIT $7)",
                "DELETE FROM user_permissions WHERE (\"user\", permission) IN ( \
                     SELECT \"user\", permission FROM user_permissions WHERE expires_at <= $5 ORDER BY expires_at LIMIT $7)",
                "DELETE FROM lockdown WHERE until <= $5",
                "UPDATE keys SET state = 'retired' WHERE state = 'previous' AND retire_at <= $5",
                "DELETE FROM departed WHERE left_at <= $6"
            ),
            args: args![now, now.millis().saturating_sub(rest), i64::from(EXPIRED_AT_ONCE)],
            summary: None,
        };
        let changes = transaction.operate(&Actor::System("system"), script)?;
        transaction.written(changes)
    }
}
