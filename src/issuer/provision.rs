//! Making a user whom a trusted issuer vouches for, where its settings say so. He is always a new one: nobody becomes a
//! user that is there already by what a provider says.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Assertion, Issuers};
use crate::config::Issuer;
use crate::domain::operation::NewUser;
use crate::domain::records::{Identity, Status, UserKind};
use crate::domain::rules::Refusal;
use crate::domain::{Actor, Operation, Unit, UserId};
use crate::store::{StoreError, WriteError};

/// A user's name, in characters.
const NAME_CHARS_MAX: usize = 200;

/// Why a user was not made.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A rule forbids it: the tenant or the default role is not there, or the role bears what is reserved.
    #[error(transparent)]
    Refused(Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Issuers {
    /// Makes the user, if he is to be made. Tells whether it is worth while to look for him again.
    pub async fn provision(&self, assertion: &Assertion) -> Result<bool, ProvisionError> {
        let of = |provider: &&super::Provider| provider.settings.issuer == assertion.identity.issuer;
        let Some(settings) = self.providers.iter().find(of).map(|provider| &provider.settings) else {
            return Ok(false);
        };
        if !settings.create_users {
            return Ok(false);
        }
        let tenant = self.store.tenant(&assertion.tenant).await?;
        if tenant.is_none_or(|tenant| tenant.status != Status::Active) {
            return Ok(false);
        }
        let mut refusal = None;
        for id in ids(&assertion.identity) {
            match self.store.write(unit(settings, assertion, id)).await {
                Ok(_) => {
                    metrics::counter!("permcast_users_provisioned_total").increment(1);
                    return Ok(true);
                }
                // Of somebody else, or he himself, made by another replica at this moment.
                Err(WriteError::Refused { refusal: taken @ (Refusal::Exists(_) | Refusal::TooSoon(_)), .. }) => {
                    refusal = Some(taken);
                }
                Err(WriteError::Refused { refusal, .. }) => return Err(ProvisionError::Refused(refusal)),
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
        match refusal {
            Some(Refusal::TooSoon(id)) => Err(ProvisionError::Refused(Refusal::TooSoon(id))),
            _ => Ok(true),
        }
    }
}

/// What he may be called: as the provider calls him, where that is an id and free; else by a digest.
fn ids(identity: &Identity) -> impl Iterator<Item = UserId> {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in [&identity.issuer, &identity.subject] {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    let digest = format!("idp_{}", &URL_SAFE_NO_PAD.encode(context.finish())[..22]);
    [identity.subject.clone(), digest].into_iter().filter_map(|text| text.parse().ok())
}

fn unit(settings: &Issuer, assertion: &Assertion, id: UserId) -> Unit {
    let tenant = assertion.tenant.clone();
    let name = assertion.name.as_deref().unwrap_or(id.as_str());
    let user = NewUser {
        id: id.clone(),
        name: name.chars().take(NAME_CHARS_MAX).collect(),
        email: None,
        kind: UserKind::Person,
        password: None,
        status: Status::Active,
        identities: vec![assertion.identity.clone()],
    };
    let mut operations = vec![Operation::CreateUser { tenant: tenant.clone(), user }];
    if let Some(role) = settings.default_role.clone() {
        operations.push(Operation::GrantRole { tenant, user: id, role, expires_at: None });
    }
    Unit { actor: Actor::Provisioning, operations }
}
