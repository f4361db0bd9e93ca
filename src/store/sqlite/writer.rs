//! The connection that writes, and how a batch is done on it.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::domain::Epoch;
use crate::store::StoreError;
use crate::store::sql::failure::{BUSY, code, failed};
use crate::store::sql::statement::{Statements as _, get, parsed};
use crate::store::sql::writer::{Batch, Committed, Guard, Pen};

use super::direct::Direct;
use super::place::{Files, Open, Place};

/// How often to ask for the writer's lock while another process has it.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// The connection that writes.
struct Held {
    files: Files,
    connection: Direct,
    /// Whether a commit waits for the disk.
    lasting: bool,
}

/// What writes into the file at a place.
pub(super) struct FilePen {
    place: Place,
    open: Arc<ArcSwap<Open>>,
    held: Option<Held>,
    /// SQLite's count of others' commits.
    data_version: Option<i64>,
}

impl FilePen {
    pub(super) fn new(place: Place, open: Arc<ArcSwap<Open>>) -> Self {
        Self { place, open, held: None, data_version: None }
    }
}

impl Pen for FilePen {
    fn commit(&mut self, batch: &mut Batch<'_>) -> Result<Committed, StoreError> {
        let opened = self.open.load().files;
        self.place.check(opened)?;
        let mut held = match self.held.take() {
            Some(held) if held.files == opened => held,
            _ => {
                self.data_version = None;
                let connection = self.place.writer().map_err(failed("opening the database"))?;
                self.place.check(opened)?;
                Held { files: opened, connection, lasting: true }
            }
        };
        let lasting = batch.lasts();
        if held.lasting != lasting {
            let set = if lasting { "PRAGMA synchronous = full" } else { "PRAGMA synchronous = normal" };
            held.connection.all(set, &[]).map_err(failed("opening the database"))?;
            held.lasting = lasting;
        }
        let (epoch, data_version) =
            begin(&mut held.connection, batch).map_err(failed("waiting for the writer's lock"))?;
        let others = self.data_version.replace(data_version).is_some_and(|before| before != data_version);
        let changes = batch.run(&mut held.connection, epoch, Guard::Operations).map_err(failed("writing"))?;
        held.connection.all("COMMIT", &[]).map_err(failed("committing"))?;
        // What went into a file that was taken away meanwhile is not acknowledged, for nobody will find it there; unless it
        // is put back, and then it is done.
        self.place.check(opened).map_err(|_| StoreError::Undecided("its file was taken away meanwhile"))?;
        self.held = Some(held);
        Ok(Committed { epoch, changes, others })
    }

    fn let_go(&mut self) {
        self.held = None;
        self.data_version = None;
    }
}

/// Takes the writer's lock. SQLite's own way of waiting for it backs off for up to a tenth of a second, and so would
/// starve beside another process that writes all the time. Jobs whose time is up meanwhile are answered, and not done.
fn begin(connection: &mut Direct, batch: &mut Batch<'_>) -> Result<(Epoch, i64), sqlx::Error> {
    const BEGIN: &str = "BEGIN IMMEDIATE; \
         SELECT epoch, (SELECT data_version FROM pragma_data_version) AS data_version FROM meta";
    loop {
        match connection.all(BEGIN, &[]) {
            Ok(rows) => {
                let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
                return Ok((parsed(row, "epoch")?, get(row, "data_version")?));
            }
            Err(error) if code(&error) == Some(BUSY) => {
                batch.dismiss_late();
                if batch.is_empty() {
                    return Err(error);
                }
                sleep(RETRY_AFTER);
            }
            Err(error) => return Err(error),
        }
    }
}
