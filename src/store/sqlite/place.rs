//! Where the database is: the file, its connections, and the one time that it is created or migrated.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rustix::fs::{stat, statfs};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::{Instant, sleep};
use tracing::log::LevelFilter;

use super::direct::Direct;
use super::restore::mark_as_ours;
use crate::domain::{Epoch, Random};
use crate::store::StoreError;
use crate::store::moving::moved_to;
use crate::store::sql::failure::{BUSY, NOT_A_DATABASE, code, failed};
use crate::store::sql::statement::{args, get};

use super::query::query;

/// The schema, step by step. The database's `user_version` counts the steps that it has taken.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_schema.sql"),
    include_str!("../../../migrations/sqlite/0002_audit.sql"),
];
/// Marks a file as permcast's ("prmc"), so that no other program's database is taken for one.
pub(super) const APPLICATION_ID: i64 = 0x7072_6d63;
/// Connections for reading. SQLite reads in parallel; more than there are cores gains nothing.
const READERS: u32 = 4;
/// How long to wait before asking again for a lock that SQLite does not wait for itself.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// Which file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

/// The files of a database that is in use. As long as a connection is open, SQLite keeps both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Files {
    main: FileId,
    /// The write-ahead log, in which the newest commits are.
    log: FileId,
}

/// The address of a database.
#[derive(Debug, Clone)]
pub(super) struct Place {
    path: PathBuf,
    /// Longest wait for anything.
    pub(super) deadline: Duration,
    /// The file may not grow above this many pages. Only tests limit it.
    pub(super) pages_max: Option<u32>,
    /// The schema, step by step. Only tests have others.
    pub(super) steps: &'static [&'static str],
}

/// What a database says of itself.
pub(super) struct Schema {
    /// Steps that it has taken.
    taken: i64,
    application: i64,
    things: i64,
}

impl Schema {
    /// Of the main database of a connection.
    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        const STATE: &str = "SELECT (SELECT user_version FROM pragma_user_version) AS version, \
             (SELECT application_id FROM pragma_application_id) AS application, \
             (SELECT count(*) FROM main.sqlite_schema) AS things";
        let row = query(STATE, vec![]).fetch_one(connection).await?;
        Ok(Self { taken: get(&row, "version")?, application: get(&row, "application")?, things: get(&row, "things")? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.things == 0
    }

    /// Whether no other program's things are in it.
    pub(super) fn is_ours(&self) -> bool {
        self.is_empty() || self.application == APPLICATION_ID
    }

    /// How many steps it has taken, where that is not more than there are.
    pub(super) fn steps_known(&self, known: usize) -> Option<usize> {
        usize::try_from(self.taken).ok().filter(|taken| *taken <= known)
    }
}

/// The connections to one file. Writing has its own.
pub(super) struct Open {
    pub(super) files: Files,
    pub(super) readers: SqlitePool,
    pub(super) tail: Mutex<Direct>,
}

impl Place {
    /// From `sqlite://path`, `sqlite:path` or a path.
    pub(super) fn new(address: &str, deadline: Duration) -> Result<Self, StoreError> {
        let path = address.strip_prefix("sqlite://").or_else(|| address.strip_prefix("sqlite:")).unwrap_or(address);
        if path.is_empty() || path == ":memory:" || path.contains('?') {
            return Err(StoreError::Unusable(format!(
                "{address:?} is no database address: write sqlite:// and the path of a file"
            )));
        }
        let path = Path::new(path);
        // Absolute, so that a later change of directory does not lead to another file.
        let path = std::path::absolute(path)
            .map_err(|error| StoreError::Unusable(format!("the path {} cannot be used: {error}", path.display())))?;
        Ok(Self { deadline, ..Self::at_path(&path) })
    }

    /// With nothing to wait for.
    pub(super) fn at_path(path: &Path) -> Self {
        Self { path: path.to_owned(), deadline: Duration::ZERO, pages_max: None, steps: MIGRATIONS }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file that is at the path now.
    pub(super) fn file(&self) -> Option<FileId> {
        Self::file_at(&self.path)
    }

    fn log_file(&self) -> Option<FileId> {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        Self::file_at(Path::new(&path))
    }

    fn file_at(path: &Path) -> Option<FileId> {
        let found = stat(path).ok()?;
        #[allow(clippy::useless_conversion, reason = "the widths differ by platform")]
        Some(FileId { device: found.st_dev.into(), inode: found.st_ino.into() })
    }

    /// Fails where the files at the path are not those that were opened.
    pub(super) fn check(&self, opened: Files) -> Result<(), StoreError> {
        match (self.file(), self.log_file()) {
            (Some(main), Some(log)) if (Files { main, log }) == opened => Ok(()),
            (None, _) => Err(StoreError::Replaced("its file is gone")),
            (Some(main), _) if main != opened.main => Err(StoreError::Replaced("another file is at its path now")),
            _ => Err(StoreError::Replaced("its write-ahead log was taken away")),
        }
    }

    pub(super) fn options(&self) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .foreign_keys(true)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(self.deadline)
            .pragma("temp_store", "memory")
            .log_slow_statements(LevelFilter::Warn, Duration::from_secs(1))
            .log_statements(LevelFilter::Trace);
        match self.pages_max {
            Some(pages) => options.pragma("max_page_count", pages.to_string()),
            None => options,
        }
    }

    /// A connection for writing. It does not wait for the writer's lock: who asks often gets his turn sooner.
    pub(super) fn writer(&self) -> Result<Direct, sqlx::Error> {
        Direct::writer(&self.path, self.pages_max)
    }

    /// Opens for reading what is there. `before` is what was open.
    pub(super) async fn open(&self, before: Option<Files>) -> Result<Open, StoreError> {
        const DOING: &str = "opening the database";
        let main = self.file().ok_or(StoreError::Replaced("its file is gone"))?;
        // SQLite would take it for this file's own, and make one database of the pages of two.
        if before.is_some_and(|before| before.main != main && self.log_file() == Some(before.log)) {
            return Err(StoreError::Replaced(
                "beside the file at its path lies another's write-ahead log: take that away",
            ));
        }
        // What was put here may be a copy, which has no write-ahead log, and who only reads cannot turn it on.
        let mut preparing = self.options().connect().await.map_err(failed(DOING))?;
        self.write_ahead(&mut preparing).await?;
        let reading = self.options().read_only(true);
        let tail = Direct::reader(&self.path, self.deadline).map_err(failed(DOING))?;
        // The first to read makes the write-ahead log, and as long as somebody has it open nobody takes it away.
        tail.each("SELECT epoch FROM meta", &[], &mut |_| Ok(())).map_err(failed(DOING))?;
        let log = self.log_file().ok_or(StoreError::Replaced("its write-ahead log was taken away"))?;
        let files = Files { main, log };
        preparing.close().await.map_err(failed(DOING))?;
        let place = self.clone();
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(self.deadline)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .after_connect(move |_, _| {
                let same = place.check(files).map_err(|error| sqlx::Error::Configuration(error.into()));
                Box::pin(std::future::ready(same))
            })
            .connect_lazy_with(reading);
        self.check(files)?;
        Ok(Open { files, readers, tail: Mutex::new(tail) })
    }

    /// Writes a copy as of one moment.
    pub(super) async fn copy_to(&self, path: &str) -> Result<(), StoreError> {
        let mut connection = self.options().connect().await.map_err(failed("opening the database"))?;
        let copied = sqlx::query("VACUUM INTO ?").bind(path).execute(&mut connection).await;
        copied.map_err(failed("copying the database"))?;
        connection.close().await.map_err(failed("closing the copy"))
    }

    /// Creates or migrates the database. Several processes may do so at once.
    pub(super) async fn prepare(&self, random: &dyn Random) -> Result<(), StoreError> {
        self.refuse_network_file_systems()?;
        self.create_for_its_owner()?;
        let mut connection = self
            .options()
            .connect()
            .await
            .map_err(|error| StoreError::Unusable(format!("{} cannot be opened: {error}", self.path.display())))?;
        self.write_ahead(&mut connection).await?;
        self.migrate(&mut connection, random).await?;
        connection.close().await.map_err(failed("closing a connection"))
    }

    /// Makes an empty file that only its owner reads: private keys will be in it. Its companions get the same permissions
    /// from SQLite. A file that is there is not touched: to close it would drop SQLite's locks on it.
    pub(super) fn create_for_its_owner(&self) -> Result<(), StoreError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
        match made {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(StoreError::Unusable(format!("{} cannot be created: {error}", self.path.display()))),
        }
    }

    /// Turns on the write-ahead log. SQLite does not wait for the lock that this takes.
    pub(super) async fn write_ahead(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let give_up_at = Instant::now() + self.deadline;
        loop {
            let set = query("PRAGMA journal_mode = wal", vec![]).fetch_one(&mut *connection).await;
            match set.and_then(|row| get::<String>(&row, "journal_mode")) {
                Ok(mode) if mode == "wal" => return Ok(()),
                Ok(_) => return Err(StoreError::Unusable("this file system cannot carry a write-ahead log".into())),
                Err(error) if code(&error) == Some(BUSY) && Instant::now() < give_up_at => {
                    sleep(RETRY_AFTER).await;
                }
                Err(error) if code(&error) == Some(NOT_A_DATABASE) => {
                    return Err(StoreError::Unusable(format!("{} is no SQLite database", self.path.display())));
                }
                Err(error) => return Err(failed("opening the database")(error)),
            }
        }
    }

    /// Takes the steps that are missing, all in one transaction under the writer's lock.
    async fn migrate(&self, connection: &mut SqliteConnection, random: &dyn Random) -> Result<(), StoreError> {
        let doing = || failed("migrating the database");
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(doing())?;
        let schema = Schema::read(&mut transaction).await.map_err(doing())?;
        if !schema.is_ours() {
            return Err(self.foreign());
        }
        let known = self.steps.len();
        let taken = schema.steps_known(known).ok_or_else(|| {
            StoreError::Unusable(format!(
                "the database {} was written by a newer permcast (schema {}, this one knows {known}): use that one, \
                 or restore a backup",
                self.path.display(),
                schema.taken
            ))
        })?;
        for step in &self.steps[taken..] {
            sqlx::raw_sql(*step).execute(&mut *transaction).await.map_err(doing())?;
        }
        if taken < known {
            let epoch = Epoch::from_random(random.bytes());
            query("UPDATE meta SET epoch = $1 WHERE epoch = ''", args![epoch.as_str()])
                .execute(&mut *transaction)
                .await
                .map_err(doing())?;
            mark_as_ours(&mut transaction, known).await.map_err(doing())?;
        }
        let row = query("SELECT epoch FROM meta", vec![]).fetch_one(&mut *transaction).await.map_err(doing())?;
        if let Some((_, to)) = moved_to(get(&row, "epoch").map_err(doing())?) {
            return Err(StoreError::Unusable(format!(
                "the database {} was moved to {to}: set PERMCAST_DATABASE_URL to that",
                self.path.display()
            )));
        }
        transaction.commit().await.map_err(doing())
    }

    /// A connection to a database that is there. It waits for nothing by itself.
    pub(super) async fn existing(&self) -> Result<SqliteConnection, StoreError> {
        let opened = self.options().busy_timeout(Duration::ZERO).connect().await;
        let mut connection = opened
            .map_err(|error| StoreError::Unusable(format!("{} cannot be opened: {error}", self.path.display())))?;
        self.write_ahead(&mut connection).await?;
        Ok(connection)
    }

    /// Fails where the database is not ours, or has not taken all steps.
    pub(super) async fn is_up_to_date(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let schema = Schema::read(connection).await.map_err(failed("reading the schema"))?;
        if schema.is_empty() || !schema.is_ours() {
            return Err(self.foreign());
        }
        if schema.steps_known(self.steps.len()) != Some(self.steps.len()) {
            return Err(StoreError::Unusable(format!(
                "the schema of {} is another version's: run `permcast migrate` on it first",
                self.path.display()
            )));
        }
        Ok(())
    }

    pub(super) fn foreign(&self) -> StoreError {
        StoreError::Unusable(format!("{} is another program's database", self.path.display()))
    }

    /// Begins a transaction on a connection that does not wait by itself. SQLite's own way of waiting for the writer's lock
    /// backs off for up to a tenth of a second, and so would starve beside a process that writes all the time.
    pub(super) async fn lock(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let give_up_at = Instant::now() + self.deadline;
        loop {
            match query("BEGIN IMMEDIATE", vec![]).execute(&mut *connection).await {
                Ok(_) => return Ok(()),
                Err(error) if code(&error) == Some(BUSY) && Instant::now() < give_up_at => {
                    sleep(RETRY_AFTER).await;
                }
                Err(error) => return Err(failed("waiting for the writer's lock")(error)),
            }
        }
    }

    /// The write-ahead log needs memory shared by all who have the file open, which no network gives.
    pub(super) fn refuse_network_file_systems(&self) -> Result<(), StoreError> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let found = statfs(directory)
            .map_err(|error| StoreError::Unusable(format!("{} cannot be used: {error}", directory.display())))?;
        // Truncated to 32 bits: the magic numbers are, and some are negative where the field is signed.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the field's type differs by platform"
        )]
        match network_file_system(found.f_type as u32) {
            None => Ok(()),
            Some(name) => Err(StoreError::Unusable(format!(
                "{} is on {name}: SQLite needs a local disk; for many hosts use PostgreSQL",
                self.path.display()
            ))),
        }
    }
}

/// The name of a file system that lies on another host, by its magic number (statfs(2)).
fn network_file_system(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9P",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564c => "NCP",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "FhGFS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0xff53_4d42), Some("SMB"));
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network_file_system(local), None);
        }
    }

    #[test]
    fn an_address_is_a_file() {
        let path = |address| Place::new(address, Duration::ZERO).map(|place| place.path);
        assert_eq!(path("sqlite:///a/b.db").unwrap(), Path::new("/a/b.db"));
        assert_eq!(path("sqlite:/a/b.db").unwrap(), Path::new("/a/b.db"));
        assert!(path("sqlite://b.db").unwrap().is_absolute());
        for bad in ["", "sqlite://", "sqlite::memory:", "sqlite://a.db?mode=ro"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
