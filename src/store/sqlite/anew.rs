//! The log begins anew where the database was taken back under our feet.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _};

use crate::domain::{Change, Epoch, Timestamp};
use crate::store::StoreError;
use crate::store::sql::anew::begin_where_taken_back;
use crate::store::sql::failure::failed;

use super::place::{Files, Place};
use super::query::query;

impl Place {
    /// Begins the log anew, if it is this epoch's and contradicts what was seen of it.
    pub(super) async fn begin_anew(
        &self,
        opened: Files,
        known: (Epoch, Option<&Change>),
        anew: Epoch,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "beginning the log anew";
        let mut connection = self.options().busy_timeout(Duration::ZERO).connect().await.map_err(failed(DOING))?;
        self.check(opened)?;
        // Dropped without a commit, the connection rolls back.
        self.lock(&mut connection).await?;
        if !begin_where_taken_back(&mut connection, known, anew, now).await.map_err(failed(DOING))? {
            return Ok(false);
        }
        query("COMMIT", vec![]).execute(&mut connection).await.map_err(failed("committing"))?;
        self.check(opened)?;
        connection.close().await.map_err(failed("closing a connection"))?;
        Ok(true)
    }
}
