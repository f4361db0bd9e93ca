//! Users and their sessions.

use std::time::Duration;

use crate::domain::operation::{NewUser, PasswordHash, Resource, UserPatch};
use crate::domain::records::{Identity, Status, UserRecord};
use crate::domain::rules::{Refusal, Rights};
use crate::domain::{SessionId, Timestamp, UserId};

use super::super::facts::{SessionState, UserFacts, UserRow, identities_json};
use super::super::statement::args;
use super::super::writer::operation;
use super::{Decided, Plan, operates};

fn known<'a>(facts: &'a UserFacts, id: &UserId) -> Result<&'a UserRow, Refusal> {
    facts.user.as_ref().ok_or_else(|| Refusal::UnknownUser(id.to_string()))
}

/// No two users of a tenant share an email or an identity.
fn is_unique(facts: &UserFacts, email: Option<&str>) -> Result<(), Refusal> {
    if let Some(email) = email.filter(|_| facts.email_taken) {
        return Err(Refusal::Exists(format!("a user with the email {email:?}")));
    }
    match &facts.identity_taken {
        Some(subject) => Err(Refusal::Exists(format!("a user with the identity {subject:?}"))),
        None => Ok(()),
    }
}

/// Each once, in order.
fn tidy(identities: &[Identity]) -> Vec<Identity> {
    let mut identities = identities.to_vec();
    identities.sort();
    identities.dedup();
    identities
}

pub(in crate::store) fn create_user(
    place: i64,
    facts: &UserFacts,
    new: &NewUser,
    now: Timestamp,
    id_rest: Duration,
) -> Decided {
    if facts.user.is_some() {
        return Err(Refusal::Exists(format!("the user {:?}", new.id.as_str())));
    }
    if facts.left_at.is_some_and(|at| now < at.plus(id_rest)) {
        return Err(Refusal::TooSoon(new.id.to_string()));
    }
    let email = new.email.as_ref().map(|email| email.to_lowercase());
    is_unique(facts, email.as_deref())?;
    let record = UserRecord {
        id: new.id.clone(),
        name: new.name.clone(),
        email: email.clone(),
        kind: new.kind,
        status: new.status,
        identities: tidy(&new.identities),
        has_password: new.password.is_some(),
        created_at: now,
    };
    Ok(Plan::script(
        operation!(
            "INSERT INTO users (tenant, id, name, email, kind, status, password, created_at) \
                 VALUES ($5, $6, $7, $8, $9, $10, $11, $12)",
            "INSERT INTO identities (tenant, issuer, subject, \"user\") \
                 SELECT u.tenant, json_extract(j.value, '$.issuer'), json_extract(j.value, '$.subject'), u.no \
                 FROM users u CROSS JOIN json_each($13) j WHERE u.tenant = $5 AND u.id = $6"
        ),
        args![
            place,
            new.id.as_str(),
            new.name.as_str(),
            email,
            new.kind.as_str(),
            new.status.as_str(),
            new.password.as_ref().map(|hash| hash.0.as_str()),
            now,
            identities_json(&record.identities),
        ],
        Resource::User(record),
    )
    .named(format!("user {} created", new.id)))
}

pub(in crate::store) fn patch_user(rights: &Rights, facts: &UserFacts, id: &UserId, patch: &UserPatch) -> Decided {
    let UserRow { no, record: old, password: old_password, bears } = known(facts, id)?;
    let mut new = old.clone();
    if let Some(name) = &patch.name {
        new.name.clone_from(name);
    }
    if let Some(email) = &patch.email {
        new.email = email.as_ref().map(|email| email.to_lowercase());
    }
    if let Some(identities) = &patch.identities {
        new.identities = tidy(identities);
    }
    new.kind = patch.kind.unwrap_or(new.kind);
    new.status = patch.status.unwrap_or(new.status);
    let password: &Option<PasswordHash> = patch.password.as_ref().unwrap_or(old_password);
    new.has_password = password.is_some();

    let (new_status, new_email) = (new.status != old.status, new.email != old.email);
    // His kind, too: it says by which ways his password opens a session.
    let new_kind = new.kind != old.kind;
    if new_status || new_email || new_kind || password != old_password || new.identities != old.identities {
        rights.may_touch(bears)?;
    }
    is_unique(facts, new.email.as_deref().filter(|_| new_email))?;
    if new == *old && password == old_password {
        return Ok(Plan::nothing(Resource::User(new)));
    }
    let suspends = new_status && new.status == Status::Suspended;
    let args = args![
        *no,
        new.name.as_str(),
        new.email.as_deref(),
        new.kind.as_str(),
        new.status.as_str(),
        password.as_ref().map(|hash| hash.0.as_str()),
        identities_json(&new.identities),
    ];
    Ok(Plan::script(
        operation!(
            "UPDATE users SET name = $6, email = $7, kind = $8, status = $9, password = $10 WHERE no = $5",
            "DELETE FROM identities WHERE \"user\" = $5 AND NOT EXISTS (SELECT 1 FROM json_each($11) j \
                 WHERE json_extract(j.value, '$.issuer') = issuer AND json_extract(j.value, '$.subject') = subject)",
            "INSERT INTO identities (tenant, issuer, subject, \"user\") \
                 SELECT u.tenant, json_extract(j.value, '$.issuer'), json_extract(j.value, '$.subject'), u.no \
                 FROM users u CROSS JOIN json_each($11) j WHERE u.no = $5 AND NOT EXISTS (SELECT 1 FROM identities i \
                     WHERE i.tenant = u.tenant AND i.issuer = json_extract(j.value, '$.issuer') \
                       AND i.subject = json_extract(j.value, '$.subject'))"
        ),
        args,
        Resource::User(new),
    )
    .losing_operator_if(suspends && operates(bears)))
}

pub(in crate::store) fn delete_user(rights: &Rights, facts: &UserFacts, id: &UserId) -> Decided {
    let user = known(facts, id)?;
    rights.may_touch(&user.bears)?;
    let sql = operation!("DELETE FROM users WHERE no = $5");
    Ok(Plan::script(sql, args![user.no], Resource::Nothing).losing_operator_if(operates(&user.bears)))
}

pub(in crate::store) fn end_session(
    rights: &Rights,
    facts: &UserFacts,
    id: &UserId,
    session: &SessionId,
    now: Timestamp,
) -> Decided {
    rights.may_touch(&known(facts, id)?.bears)?;
    match facts.session {
        SessionState::Unknown => Err(Refusal::UnknownSession(session.to_string())),
        SessionState::Over => Ok(Plan::nothing(Resource::Nothing)),
        SessionState::Live => Ok(Plan::script(
            operation!("UPDATE sessions SET ended_at = $6, ended_by = 'signed_out' WHERE id = $5"),
            args![session.as_str(), now],
            Resource::Nothing,
        )),
    }
}

/// Always a change: a token that no session of ours stands behind ends by it, too.
pub(in crate::store) fn end_sessions(rights: &Rights, facts: &UserFacts, id: &UserId) -> Decided {
    let user = known(facts, id)?;
    rights.may_touch(&user.bears)?;
    let sql = operation!("UPDATE users SET sign_outs = sign_outs + 1 WHERE no = $5");
    Ok(Plan::script(sql, args![user.no], Resource::Nothing))
}
