//! What the first start of a deployment settles for all later ones.

use std::net::SocketAddr;

use super::StartError;
use crate::config::Config;
use crate::domain::operation::NewUser;
use crate::domain::permission::OPERATOR;
use crate::domain::records::{Status, UserKind};
use crate::domain::{Actor, Operation, TenantName, Unit, UserId};
use crate::store::{Store, WriteError};
use crate::token::Passwords;

/// The issuer is the deployment's, not the replica's: the first start says it, and all others must agree.
pub(super) async fn issuer(store: &dyn Store, config: &Config, address: SocketAddr) -> Result<String, StartError> {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let proposed = config.issuer.clone().unwrap_or_else(|| format!("{scheme}://{address}"));
    let kept = store.ensure_setting("issuer", &proposed).await?;
    match &config.issuer {
        Some(set) if *set != kept => Err(StartError::Setting(format!(
            "issuer is {set:?} here, but this deployment's tokens are issued by {kept:?}; set it to that, or leave it out"
        ))),
        _ => Ok(kept),
    }
}

/// Makes the first operator, if there is none at all.
pub(super) async fn bootstrap(store: &dyn Store, passwords: &Passwords, config: &Config) -> Result<(), StartError> {
    let Some(first) = &config.bootstrap else { return Ok(()) };
    if store.has_operator().await? {
        return Ok(());
    }
    let id: UserId = first.user.parse()?;
    let tenant = TenantName::first();
    let password = passwords.hash(first.password.0.clone()).await?;
    let user = NewUser {
        id: id.clone(),
        name: id.to_string(),
        email: None,
        kind: UserKind::Person,
        password: Some(password),
        status: Status::Active,
        identities: Vec::new(),
    };
    let unit = Unit {
        actor: Actor::System("bootstrap"),
        operations: vec![
            Operation::CreateUser { tenant: tenant.clone(), user },
            Operation::GrantPermission { tenant, user: id.clone(), permission: OPERATOR.parse()?, expires_at: None },
        ],
    };
    match store.write(unit).await {
        Ok(_) => {
            tracing::info!(user = %id, "made the first operator");
            Ok(())
        }
        // Another replica was faster, or somebody of this name is there without the right.
        Err(WriteError::Refused { .. }) if store.has_operator().await? => Ok(()),
        Err(WriteError::Refused { .. }) => Err(StartError::Setting(format!(
            "bootstrap_user: {id} exists already, but is no operator; name another user, or give him {OPERATOR}"
        ))),
        Err(error) => Err(StartError::Bootstrap(error)),
    }
}
