//! A second place to load from: a database that follows the one that is written to, and may be behind it.

use async_trait::async_trait;

use super::{Loaded, RoleFacts, StoreError, UserFacts};
use crate::domain::{Change, RoleNo, TenantName, UserId};

/// Something read there, and the end of the log as it stood there, both as of one moment.
#[derive(Debug, Clone)]
pub struct Sighted<T> {
    pub loaded: Loaded<T>,
    /// The last row of the log; `None` where it has none.
    pub last: Option<Change>,
}

/// A database that only follows. One that has come to be written to (a standby that was promoted) answers nothing more.
#[async_trait]
pub trait Standby: Send + Sync + 'static {
    /// As [`Store::load_user`](super::Store::load_user).
    async fn load_user(&self, tenant: &TenantName, user: &UserId) -> Result<Sighted<Option<UserFacts>>, StoreError>;
    /// As [`Store::load_role`](super::Store::load_role).
    async fn load_role(&self, role: RoleNo) -> Result<Sighted<Option<RoleFacts>>, StoreError>;
    /// Lets go of what is open.
    async fn close(&self);
}
