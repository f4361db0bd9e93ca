//! A standby of the server, which is read from and never written to.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgPool;
use sqlx::{Postgres as Sql, Transaction};
use tokio::time::timeout;

use crate::domain::{Change, Clock, RoleNo, TenantName, UserId};
use crate::store::sql::statement::{Ask as _, get};
use crate::store::sql::store::Engine as _;
use crate::store::sql::{log, read};
use crate::store::standby::{Sighted, Standby};
use crate::store::{RoleFacts, StoreError, UserFacts};

use super::Postgres;
use super::place::{Place, refined};

/// Longest wait for it: whoever waits can ask the primary.
const WITHIN: Duration = Duration::from_millis(250);
const DOING: &str = "reading from the standby";

/// A standby of PostgreSQL.
pub struct PostgresStandby {
    readers: PgPool,
    clock: Arc<dyn Clock>,
}

impl PostgresStandby {
    /// The standby at `postgres://…`, with so many connections at most. It is not asked anything yet.
    pub fn new(address: &str, most: u32, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let place = Arc::new(Place::new(address, WITHIN)?);
        Ok(Self { readers: place.followers(most), clock })
    }

    /// Begins to read as of one moment: where its log ends, first.
    async fn begin(&self) -> Result<(Transaction<'static, Sql>, Option<Change>), sqlx::Error> {
        const LAST: &str = "SELECT pg_is_in_recovery() AS standby, \
                 c.seq, c.at, c.tenant, c.kind, c.target, c.\"user\", c.effect \
             FROM meta LEFT JOIN changes c ON c.seq = (SELECT MAX(seq) FROM changes)";
        let mut snapshot = Postgres::snapshot(self.readers.clone()).await?;
        let row = snapshot.one(LAST, vec![]).await?;
        if !get::<bool>(&row, "standby")? {
            return Err(sqlx::Error::Configuration("the server at its address is no standby (any more)".into()));
        }
        let last = get::<Option<i64>>(&row, "seq")?.map(|_| log::change(&row)).transpose()?;
        Ok((snapshot, last.map(|(change, _)| change)))
    }
}

async fn in_time<T>(reading: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    let read = timeout(WITHIN, reading).await;
    read.map_err(|_| StoreError::Unavailable { doing: DOING, source: None })?.map_err(refined(DOING))
}

#[async_trait]
impl Standby for PostgresStandby {
    async fn load_user(&self, tenant: &TenantName, user: &UserId) -> Result<Sighted<Option<UserFacts>>, StoreError> {
        let now = self.clock.now();
        in_time(async {
            let (mut snapshot, last) = self.begin().await?;
            Ok(Sighted { loaded: read::user_facts(&mut snapshot, tenant, user, now).await?, last })
        })
        .await
    }

    async fn load_role(&self, role: RoleNo) -> Result<Sighted<Option<RoleFacts>>, StoreError> {
        in_time(async {
            let (mut snapshot, last) = self.begin().await?;
            Ok(Sighted { loaded: read::role_facts(&mut snapshot, role).await?, last })
        })
        .await
    }

    async fn close(&self) {
        self.readers.close().await;
    }
}
