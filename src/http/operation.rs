//! From a method, a path below a tenant and a body to an [`Operation`]: for REST and for `/batch` alike.

use actix_web::http::Method;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::fields::Password;
use super::json::Object;
use super::problem::Problem;
use super::{grants, roles, users};
use crate::domain::rules::Refusal;
use crate::domain::{Grant, Operation, RoleName, SessionId, TenantName, Timestamp, UserId};
use crate::token::Passwords;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Put,
    Delete,
    Post,
    Patch,
}

impl Verb {
    /// That of a request.
    pub fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::PUT => Some(Self::Put),
            Method::DELETE => Some(Self::Delete),
            Method::POST => Some(Self::Post),
            Method::PATCH => Some(Self::Patch),
            _ => None,
        }
    }

    /// That of an operation of a batch.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "put" => Some(Self::Put),
            "delete" => Some(Self::Delete),
            "post" => Some(Self::Post),
            "patch" => Some(Self::Patch),
            _ => None,
        }
    }
}

/// Where path and body stand, so that pointers lead to them.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    path: &'static str,
    body: &'static str,
}

impl Place {
    /// Of a request: the body is all there is.
    pub const REQUEST: Self = Self { path: "", body: "" };
    /// Of one operation in a batch.
    pub const BATCH: Self = Self { path: "/path", body: "/body" };
}

/// An operation whose password, if it has one, is still to be hashed.
#[derive(Debug)]
pub struct Draft {
    operation: Operation,
    password: Option<Password>,
}

impl From<Operation> for Draft {
    fn from(operation: Operation) -> Self {
        Self { operation, password: None }
    }
}

impl Draft {
    /// One with a password.
    pub fn with_password(operation: Operation, password: Option<Password>) -> Self {
        Self { operation, password }
    }

    /// The operation, with the password's hash.
    pub async fn hashed(mut self, passwords: &Passwords) -> Result<Operation, Problem> {
        if let Some(Password(password)) = self.password {
            let hash = passwords.hash(password).await?;
            match &mut self.operation {
                Operation::CreateUser { user, .. } => user.password = Some(hash),
                Operation::PatchUser { patch, .. } => patch.password = Some(Some(hash)),
                _ => unreachable!("only users have passwords"),
            }
        }
        Ok(self.operation)
    }
}

/// The segments of a path, decoded. `None` where one is no text.
pub fn segments(path: &str) -> Option<Vec<String>> {
    let decode = |segment: &str| percent_decode_str(segment).decode_utf8().ok().map(std::borrow::Cow::into_owned);
    path.split('/').map(decode).collect()
}

/// Reads what is to be done within a tenant; `path` are the segments below it.
pub fn parse(
    verb: Verb,
    tenant: &TenantName,
    path: &[&str],
    body: Option<Value>,
    now: Timestamp,
    place: Place,
) -> Result<Draft, Problem> {
    let tenant = tenant.clone();
    let grant = |text: &str| text.parse::<Grant>().map_err(|rule| Problem::invalid_at(place.path, rule.0));
    let body = Object::at(place.body, body.unwrap_or_else(|| Value::Object(serde_json::Map::new())));
    let operation = match (verb, path) {
        (Verb::Post, ["users"]) => return users::create(tenant, body),
        (Verb::Patch, ["users", user]) => return users::patch(tenant, user_id(user)?, body),
        (Verb::Post, ["roles"]) => return Ok(roles::create(tenant, body)?.into()),
        (Verb::Patch, ["roles", role]) => return Ok(roles::patch(tenant, role_name(role)?, body)?.into()),
        (Verb::Put, ["users", user, "roles", role]) => {
            let (user, role) = (user_id(user)?, role_name(role)?);
            let expires_at = grants::expiry(body, now)?;
            return Ok(Operation::GrantRole { tenant, user, role, expires_at }.into());
        }
        (Verb::Put, ["users", user, "permissions", permission]) => {
            let (user, permission) = (user_id(user)?, grant(permission)?);
            let expires_at = grants::expiry(body, now)?;
            return Ok(Operation::GrantPermission { tenant, user, permission, expires_at }.into());
        }

        // From here on there is no body.
        (Verb::Delete, ["users", user]) => Operation::DeleteUser { tenant, user: user_id(user)? },
        (Verb::Delete, ["users", user, "roles", role]) => {
            Operation::RevokeRole { tenant, user: user_id(user)?, role: role_name(role)? }
        }
        (Verb::Delete, ["users", user, "permissions", permission]) => {
            Operation::RevokePermission { tenant, user: user_id(user)?, permission: grant(permission)? }
        }
        (Verb::Delete, ["users", user, "sessions"]) => Operation::EndSessions { tenant, user: user_id(user)? },
        (Verb::Delete, ["users", user, "sessions", session]) => {
            Operation::EndSession { tenant, user: user_id(user)?, session: session_id(session)? }
        }
        (Verb::Delete, ["roles", role]) => Operation::DeleteRole { tenant, role: role_name(role)? },
        (Verb::Put, ["roles", role, "permissions", permission]) => {
            Operation::AddRolePermission { tenant, role: role_name(role)?, permission: grant(permission)? }
        }
        (Verb::Delete, ["roles", role, "permissions", permission]) => {
            Operation::RemoveRolePermission { tenant, role: role_name(role)?, permission: grant(permission)? }
        }
        (Verb::Put, ["roles", role, "includes", other]) => {
            Operation::AddInclude { tenant, role: role_name(role)?, other: role_name(other)? }
        }
        (Verb::Delete, ["roles", role, "includes", other]) => {
            Operation::RemoveInclude { tenant, role: role_name(role)?, other: role_name(other)? }
        }
        _ => return Err(Problem::invalid_at(place.path, "there is no such operation")),
    };
    body.finish(Some(()))?;
    Ok(operation.into())
}

/// A text that no user's id can be names no user.
pub fn user_id(text: &str) -> Result<UserId, Problem> {
    text.parse().map_err(|_| Refusal::UnknownUser(shortened(text)).into())
}

/// A text that no role's name can be names no role.
pub fn role_name(text: &str) -> Result<RoleName, Problem> {
    text.parse().map_err(|_| Refusal::UnknownRole(shortened(text)).into())
}

/// A text that no tenant's name can be names no tenant.
pub fn tenant_name(text: &str) -> Result<TenantName, Problem> {
    text.parse().map_err(|_| Refusal::UnknownTenant.into())
}

/// A text that no session's id can be names no session.
pub fn session_id(text: &str) -> Result<SessionId, Problem> {
    text.parse().map_err(|_| Refusal::UnknownSession(shortened(text)).into())
}

/// What is repeated to a caller is bounded.
fn shortened(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
