//! Where the database is: the server, its connections, and the one time that the schema is created or migrated.

use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::timeout;
use tracing::log::LevelFilter;

use crate::domain::{Epoch, Random};
use crate::store::StoreError;
use crate::store::moving::received;
use crate::store::sql::failure::failed;
use crate::store::sql::statement::{Ask as _, Row, args, get};

/// The schema, step by step. The table `permcast_schema` counts the steps that it has taken.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/postgres/0001_schema.sql"),
    include_str!("../../../migrations/postgres/0002_audit.sql"),
    include_str!("../../../migrations/postgres/0003_operate.sql"),
    include_str!("../../../migrations/postgres/0004_log.sql"),
];
/// The lock of whoever migrates ("prmc"), so that several may start at once.
const MIGRATING: i64 = 0x7072_6d63;
/// Longest wait for somebody's lock on a row, so that a shell which idles over one holds no other writer up for longer.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// Statements that a connection keeps prepared: all that there are.
const STATEMENTS: usize = 256;
/// A connection for reading is not kept idle for longer, nor used for longer.
const IDLE: Duration = Duration::from_mins(10);
const LIFE: Duration = Duration::from_mins(30);
/// The oldest server that has all that the schema uses.
const OLDEST: i64 = 150_000;

/// Which server, and which of its histories: a standby that is promoted begins another timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Server {
    system: i64,
    timeline: i64,
}

impl Server {
    /// From the columns `standby`, `system` and `timeline`; a standby is none.
    pub(super) fn read(row: &dyn Row) -> Result<Option<Self>, sqlx::Error> {
        if get::<bool>(row, "standby")? {
            return Ok(None);
        }
        Ok(Some(Self { system: get(row, "system")?, timeline: get(row, "timeline")? }))
    }
}

/// What [`Server::read`] reads is selected from.
macro_rules! server {
    () => {
        "(SELECT pg_is_in_recovery() AS standby, (SELECT system_identifier FROM pg_control_system()) AS system, \
             CASE WHEN NOT pg_is_in_recovery() THEN \
                 ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint END AS timeline) server"
    };
}
pub(super) use server;

/// The address of a database.
pub(super) struct Place {
    options: PgConnectOptions,
    /// The address without the password.
    shown: String,
    /// Longest wait for anything.
    pub(super) deadline: Duration,
    /// The newest history that was seen here.
    newest: Mutex<Option<Server>>,
    /// How often that was another than before.
    turns: AtomicU64,
}

impl Place {
    /// From `postgres://user@host:port/database`.
    pub(super) fn new(address: &str, deadline: Duration) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(address).map_err(|_| {
            StoreError::Unusable(
                "this is no database address: write postgres://user@host:port/database, and for TLS after it \
                 ?sslmode=verify-full&sslrootcert=path"
                    .to_owned(),
            )
        })?;
        let shown = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        let shown = format!("{database} at {shown}");
        let options = options
            .application_name("permcast")
            .statement_cache_capacity(STATEMENTS)
            .log_slow_statements(LevelFilter::Warn, Duration::from_secs(1))
            .log_statements(LevelFilter::Trace);
        Ok(Self { options, shown, deadline, newest: Mutex::default(), turns: AtomicU64::new(0) })
    }

    /// A connection to the primary, which waits for no lock for long. `for_writing`: what is acknowledged on it is on disk,
    /// and a transaction whose owner has frozen ends.
    pub(super) async fn connect(&self, for_writing: bool) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let server = self.settle(&mut connection, for_writing).await?;
        self.is_primary(server)?;
        Ok(connection)
    }

    /// Makes the settings of a connection; answers which server it is to.
    async fn settle(&self, connection: &mut PgConnection, for_writing: bool) -> Result<Option<Server>, sqlx::Error> {
        // A statement that writes has no timeout of the server's: where a commit waits for a standby, that would cut the wait
        // short and call it done. It has ours, after which the connection is given up.
        // Each statement looks rows up by an index, whatever it is asked with: it is planned once, as for large tables, and
        // not compiled.
        const SETTLE: &str = concat!(
            "SELECT server.standby, server.system, server.timeline, \
                 set_config('lock_timeout', $1, false), set_config('statement_timeout', $2, false), \
                 set_config('idle_in_transaction_session_timeout', $3, false), \
                 set_config('synchronous_commit', CASE current_setting('synchronous_commit') \
                     WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false), \
                 set_config('client_connection_check_interval', $3, false), \
                 set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false), \
                 set_config('jit', 'off', false), \
                 set_config('default_transaction_isolation', 'read committed', false) FROM ",
            server!()
        );
        let millis = |time: Duration| time.as_millis().to_string();
        let statement = if for_writing { "0".to_owned() } else { millis(self.deadline) };
        let row = connection.one(SETTLE, args![millis(LOCK_WAIT), statement, millis(self.deadline)]).await?;
        Server::read(&row)
    }

    /// Whether that process of the server's does something for somebody. Asks on a connection of its own.
    pub(super) async fn is_at_work(&self, process: i64) -> bool {
        const ACTIVE: &str = "SELECT count(*) AS found FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
        let asked = timeout(self.deadline, async {
            let mut connection = self.connect(false).await?;
            Ok::<_, sqlx::Error>(get::<i64>(&connection.one(ACTIVE, args![process]).await?, "found")? > 0)
        });
        matches!(asked.await, Ok(Ok(true)))
    }

    fn is_primary(&self, server: Option<Server>) -> Result<(), sqlx::Error> {
        self.recognise(server).map_err(|error| sqlx::Error::Configuration(error.into()))
    }

    /// Fails where that is not the primary, or one that another has taken over from.
    pub(super) fn recognise(&self, server: Option<Server>) -> Result<(), StoreError> {
        let Some(server) = server else { return Err(StoreError::Replaced("the server at its address is a standby")) };
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match *newest {
            Some(known) if known.system == server.system && known.timeline > server.timeline => {
                Err(StoreError::Replaced("the server at its address is one that a standby has taken over from"))
            }
            known => {
                if known.is_some_and(|known| known != server) {
                    self.turns.fetch_add(1, Ordering::AcqRel);
                }
                *newest = Some(server);
                Ok(())
            }
        }
    }

    /// How often another server has taken over here.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    /// Connections for reading from the primary, made when they are needed.
    pub(super) fn readers(self: &Arc<Self>, most: u32) -> PgPool {
        self.pool(most, Self::is_primary)
    }

    /// Connections for reading from whatever server is there.
    pub(super) fn followers(self: &Arc<Self>, most: u32) -> PgPool {
        self.pool(most, |_, _| Ok(()))
    }

    fn pool(self: &Arc<Self>, most: u32, is_right: fn(&Self, Option<Server>) -> Result<(), sqlx::Error>) -> PgPool {
        let place = Arc::clone(self);
        PgPoolOptions::new()
            .max_connections(most)
            // Before the deadline of who waits: that all are busy says nothing of any of them.
            .acquire_timeout(self.deadline * 9 / 10)
            .idle_timeout(IDLE)
            .max_lifetime(LIFE)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let place = Arc::clone(&place);
                Box::pin(async move {
                    let server = place.settle(connection, false).await?;
                    is_right(&place, server)
                })
            })
            .connect_lazy_with(self.options.clone())
    }

    /// Does something within the deadline.
    pub(super) async fn in_time<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let done = timeout(self.deadline, work).await;
        done.map_err(|_| StoreError::Unavailable { doing, source: None })?.map_err(refined(doing))
    }

    /// Creates or migrates the database. Several processes may do so at once.
    pub(super) async fn prepare(&self, random: &dyn Random) -> Result<(), StoreError> {
        if received(&self.migrated(random).await?).is_some() {
            return Err(StoreError::Unusable(format!(
                "the database {} holds part of another that is moved into it: give the same `permcast move` again to \
                 finish that",
                self.shown
            )));
        }
        Ok(())
    }

    /// The same, whatever is in it; gives what stands in the place of the epoch.
    pub(super) async fn migrated(&self, random: &dyn Random) -> Result<String, StoreError> {
        const DOING: &str = "migrating the database";
        let unusable = |why: String| StoreError::Unusable(format!("the database {} {why}", self.shown));
        let mut connection = match timeout(self.deadline, self.connect(true)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(unusable(why_not(&error))),
            Err(_) => return Err(unusable(format!("does not answer within {:?}", self.deadline))),
        };
        let epoch = match timeout(self.deadline, self.migrate(&mut connection, random)).await {
            Ok(Ok(epoch)) => epoch,
            Ok(Err(Hindrance::Unusable(why))) => return Err(unusable(why)),
            Ok(Err(Hindrance::Sql(error))) => return Err(failed(DOING)(error)),
            Err(_) => return Err(StoreError::Unavailable { doing: DOING, source: None }),
        };
        // It is told so; whether it heard makes no difference.
        let _ = timeout(self.deadline, connection.close()).await;
        Ok(epoch)
    }

    /// Takes the steps that are missing, all in one transaction.
    async fn migrate(&self, connection: &mut PgConnection, random: &dyn Random) -> Result<String, Hindrance> {
        const EPOCH: &str = "SELECT epoch FROM meta";
        const STATE: &str = "SELECT current_setting('server_version_num')::bigint AS server_version, \
             current_setting('server_encoding') AS encoding, current_schema() AS place, \
             to_regclass('permcast_schema') IS NOT NULL AS ours, \
             (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')) AS things, \
             has_schema_privilege(current_schema(), 'CREATE') AS may";
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        let mut transaction = connection.begin().await?;
        let ask = &mut *transaction;
        ask.all("SET LOCAL lock_timeout = 0", vec![]).await?;
        ask.all("SELECT pg_advisory_xact_lock($1)", args![MIGRATING]).await?;
        let state = ask.one(STATE, vec![]).await?;
        if get::<i64>(&state, "server_version")? < OLDEST {
            return Err(Hindrance::Unusable("is older than PostgreSQL 15: use that, or a later one".into()));
        }
        if get::<&str>(&state, "encoding")? != "UTF8" {
            return Err(Hindrance::Unusable("has another encoding: make one WITH ENCODING 'UTF8'".into()));
        }
        let Some(place) = get::<Option<String>>(&state, "place")? else {
            return Err(Hindrance::Unusable("has no schema in its search_path: create one, and name it there".into()));
        };
        let taken = if get::<bool>(&state, "ours")? {
            get::<i64>(&ask.one("SELECT taken FROM permcast_schema", vec![]).await?, "taken")?
        } else if get::<i64>(&state, "things")? > 0 {
            return Err(Hindrance::Unusable(format!(
                "holds another program's tables in the schema {place:?}: give permcast a database, or a schema, of its own"
            )));
        } else {
            0
        };
        if taken > known {
            return Err(Hindrance::Unusable(format!(
                "was written by a newer permcast (schema {taken}, this one knows {known}): use that one, or restore a \
                 backup"
            )));
        }
        if taken == known {
            return Ok(get(&ask.one(EPOCH, vec![]).await?, "epoch")?);
        }
        if !get::<bool>(&state, "may")? {
            return Err(Hindrance::Unusable(format!(
                "is to be migrated, and its user may not create tables: GRANT CREATE ON SCHEMA {place:?}, or run `permcast \
                 migrate` as its owner"
            )));
        }
        for step in MIGRATIONS.iter().skip(usize::try_from(taken).unwrap_or(0)) {
            sqlx::raw_sql(*step).execute(&mut *ask).await?;
        }
        if taken == 0 {
            ask.all("CREATE TABLE permcast_schema (taken bigint NOT NULL)", vec![]).await?;
            ask.all("INSERT INTO permcast_schema (taken) VALUES (0)", vec![]).await?;
        }
        ask.all("UPDATE permcast_schema SET taken = $1", args![known]).await?;
        let epoch = Epoch::from_random(random.bytes());
        ask.all("UPDATE meta SET epoch = $1 WHERE epoch = ''", args![epoch.as_str()]).await?;
        let epoch = get(&ask.one(EPOCH, vec![]).await?, "epoch")?;
        transaction.commit().await?;
        Ok(epoch)
    }
}

/// Why a database was not migrated.
enum Hindrance {
    Unusable(String),
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for Hindrance {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// What a failure is for the one who asked; one of ours, which went through SQLx, is what it was.
pub(super) fn refined(doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| match error {
        sqlx::Error::Configuration(cause) => match cause.downcast::<StoreError>() {
            Ok(own) => *own,
            Err(cause) => failed(doing)(sqlx::Error::Configuration(cause)),
        },
        other => failed(doing)(other),
    }
}

/// Why there is no connection, and what to do about it.
fn why_not(error: &sqlx::Error) -> String {
    let by_tls = |cause: &dyn std::fmt::Display| {
        format!("cannot be reached by TLS: {cause}; see sslmode and sslrootcert in PERMCAST_DATABASE_URL")
    };
    match error {
        // A certificate that is not believed comes as bytes that make no sense.
        sqlx::Error::Io(cause) if cause.kind() == std::io::ErrorKind::InvalidData => by_tls(cause),
        sqlx::Error::Io(cause) => {
            format!("cannot be reached: {cause}; is a server running there, and is PERMCAST_DATABASE_URL right?")
        }
        sqlx::Error::Tls(cause) => by_tls(cause),
        sqlx::Error::Configuration(cause) => match cause.downcast_ref::<StoreError>() {
            Some(StoreError::Replaced(why)) => format!("cannot be used: {why}; give the primary's address"),
            _ => format!("cannot be reached: {cause}"),
        },
        sqlx::Error::Database(cause) => {
            let hint = match cause.code().as_deref() {
                Some("28P01" | "28000") => {
                    "; see the user in PERMCAST_DATABASE_URL and PERMCAST_DATABASE_PASSWORD_FILE"
                }
                Some("3D000") => "; create it, or see PERMCAST_DATABASE_URL",
                Some("53300") => "; raise its max_connections, or lower PERMCAST_DATABASE_CONNECTIONS",
                _ => "",
            };
            format!("refuses: {}{hint}", cause.message())
        }
        other => format!("cannot be reached: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(system: i64, timeline: i64) -> Server {
        Server { system, timeline }
    }

    #[test]
    fn no_password_is_shown() {
        let place = Place::new("postgres://ann:hush@db.example:6543/perms?sslmode=require", Duration::ZERO).unwrap();
        assert_eq!(place.shown, "perms at db.example:6543");
        let wrong = Place::new("postgres://ann:hush@db.example:port/perms", Duration::ZERO).err().unwrap();
        assert!(!format!("{wrong:?}").contains("hush"), "{wrong:?}");
    }

    #[test]
    fn an_older_history_is_not_gone_back_to() {
        let place = Place::new("postgres://db/perms", Duration::ZERO).unwrap();
        assert!(place.recognise(Some(server(7, 1))).is_ok());
        assert!(place.recognise(Some(server(7, 2))).is_ok(), "a standby was promoted");
        assert!(matches!(place.recognise(Some(server(7, 1))), Err(StoreError::Replaced(_))), "the old primary is back");
        assert!(matches!(place.recognise(None), Err(StoreError::Replaced(_))), "a standby");
        assert!(
            place.recognise(Some(server(8, 1))).is_ok(),
            "another server begins to count anew: the log itself tells"
        );
    }
}
