//! What an operator does from a shell beside the database: no replica needs to run, and every change made here is logged
//! and reaches those that do.

mod audit;
mod lookup;
mod moving;
mod settings;
mod token;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub use audit::Audit;
pub use settings::{Given, chain, refuse};
pub use token::Token;

use crate::app::open_store;
use crate::config::{Config, Database, Server};
use crate::domain::limits::REFRESH_GRACE;
use crate::domain::operation::NewLockdown;
use crate::domain::{Actor, Change, Clock, Epoch, Operation, Seq, TenantName, Unit};
use crate::runtime::{SystemClock, SystemRandom};
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{CommitListener, Restored, Store, StoreError, StoreOptions, WriteError};
use crate::token::{KeyError, KeySet, MintError, RotateError, UnknownAlgorithm, Vault, VaultError};

/// How the log names who acts from here.
const ACTOR: Actor = Actor::System("cli");
/// Longest wait for the database.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often `watch` looks for what is new.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// Commands for operators.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Create the database, or bring its schema up to date.
    Migrate {
        #[command(flatten)]
        given: Given,
    },
    /// Write a copy of the database while it is in use.
    Backup {
        /// Where to; nothing may be there yet.
        path: PathBuf,
        #[command(flatten)]
        given: Given,
    },
    /// Put a backup in the database's place, while it is in use or where there is none yet.
    ///
    /// Every token and cached permission from before is stale, on every replica, and every session is over. Signing keys,
    /// too, become those of the backup: where some were revoked since, rotate them with --revoke afterwards.
    Restore {
        /// The backup; it is not altered. PostgreSQL's is put back by pg_restore, and then --new-epoch.
        #[arg(required_unless_present = "new_epoch")]
        path: Option<PathBuf>,
        /// PostgreSQL: a backup was put back by pg_restore; begin a new epoch in it.
        #[arg(long, conflicts_with = "path")]
        new_epoch: bool,
        /// Let the sessions that the backup knows go on, those among them that were ended since, too.
        #[arg(long)]
        keep_sessions: bool,
        #[command(flatten)]
        given: Given,
    },
    /// Move everything from a file of SQLite to a database of PostgreSQL; tokens and sessions stay good.
    ///
    /// The source is in use while it is copied; then writes are refused until every row has been compared, and it is marked
    /// as moved: replicas left on it decide nothing any more. If it is interrupted, give the same command again.
    Move {
        /// sqlite:// and the path of the file.
        #[arg(long)]
        from: String,
        /// postgres://user@host:port/database; an empty one.
        #[arg(long)]
        to: String,
        /// A file with PostgreSQL's password.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// Show, begin or lift a lockdown: all but operators are refused.
    Lockdown {
        #[command(subcommand)]
        what: Lockdown,
        #[command(flatten)]
        given: Given,
    },
    /// Show or rotate the signing keys.
    Keys {
        #[command(subcommand)]
        what: Keys,
        #[command(flatten)]
        given: Given,
    },
    /// Verify or export the audit trail: who did what to whom, when, from where, by which request.
    Audit {
        #[command(subcommand)]
        what: Audit,
        #[command(flatten)]
        given: Given,
    },
    /// Inspect, issue and revoke tokens.
    Token {
        #[command(subcommand)]
        what: Token,
        #[command(flatten)]
        given: Given,
    },
    /// Follow the change log, one JSON object a line.
    Watch {
        /// Only this tenant's changes, and those that touch every tenant.
        #[arg(long)]
        tenant: Option<TenantName>,
        /// Begin after this position instead of at the end.
        #[arg(long)]
        after: Option<u64>,
        #[command(flatten)]
        given: Given,
    },
    /// Check settings, database and broker, and say what is wrong.
    Doctor {
        #[command(flatten)]
        given: Given,
    },
}

/// What to do about the lockdown.
#[derive(clap::Subcommand)]
pub enum Lockdown {
    /// Whether there is one.
    Status,
    /// Begin one.
    On {
        /// One tenant instead of all.
        #[arg(long)]
        only: Option<TenantName>,
        /// What clients are told to wait, in seconds.
        #[arg(long, default_value_t = 60)]
        retry_after: u32,
    },
    /// Lift it.
    Off,
}

/// What to do about the keys.
#[derive(clap::Subcommand)]
pub enum Keys {
    /// The public keys that verify, as a JWKS.
    List,
    /// Refuse from now on what a former key signed, before its time.
    Retire {
        /// Which; see `keys list`.
        kid: String,
    },
    /// Sign with the next key from now on.
    Rotate {
        /// Refuse every access token issued before, everywhere, at once.
        #[arg(long)]
        revoke: bool,
        /// End every session, too.
        #[arg(long, requires = "revoke")]
        sessions: bool,
    },
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("{0}")]
    Settings(String),
    #[error("{0}")]
    OtherTool(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Rotate(#[from] RotateError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Algorithm(#[from] UnknownAlgorithm),
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error("cannot write the answer")]
    Output(#[from] std::io::Error),
    #[error("{0}")]
    Unwell(String),
}

struct Deaf;

impl CommitListener for Deaf {
    fn committed(&self, _: Epoch, _: &[Change]) {}
}

impl Command {
    /// Carries the command out.
    pub async fn run(self) -> ExitCode {
        match self.carry_out().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&chain(&error)),
        }
    }

    async fn carry_out(self) -> Result<(), CommandError> {
        match self {
            Self::Migrate { given } => {
                let (store, _) = open(given).await?;
                let head = store.tail(Seq::ZERO).await?;
                say(&format!("the schema is up to date; epoch {}, {} changes", head.epoch, head.head))?;
                store.close().await;
                Ok(())
            }
            Self::Backup { path, given } => {
                let config = given.load().map_err(CommandError::Settings)?;
                let Database::File(address) = &config.database else {
                    return Err(CommandError::OtherTool("pg_dump -Fc makes a backup of PostgreSQL while it is in use"));
                };
                let clock = Arc::new(SystemClock);
                let store = SqliteStore::open(address, options(&config), clock, &SystemRandom).await?;
                store.backup(&path).await?;
                store.close().await;
                say(&format!("wrote {}", path.display()))
            }
            Self::Restore { path, new_epoch: _, keep_sessions, given } => {
                restore(path.as_deref(), keep_sessions, given).await
            }
            Self::Move { from, to, password_file } => moving::relocate(&from, &to, password_file.as_deref()).await,
            Self::Lockdown { what, given } => lockdown(what, given).await,
            Self::Keys { what, given } => keys(what, given).await,
            Self::Audit { what, given } => audit::audit(what, given).await,
            Self::Token { what, given } => token::token(what, given).await,
            Self::Watch { tenant, after, given } => watch(tenant, after, given).await,
            Self::Doctor { given } => lookup::doctor(given).await,
        }
    }
}

async fn open(given: Given) -> Result<(Arc<dyn Store>, Config), CommandError> {
    let config = given.load().map_err(CommandError::Settings)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = open_store(&config.database, options(&config), &clock, &SystemRandom).await?;
    Ok((store, config))
}

fn options(config: &Config) -> StoreOptions {
    StoreOptions {
        id_rest: config.refresh_token_ttl,
        refresh_grace: REFRESH_GRACE,
        deadline: DEADLINE,
        listener: Arc::new(Deaf),
    }
}

fn say(text: &str) -> Result<(), CommandError> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

async fn restore(path: Option<&Path>, keep_sessions: bool, given: Given) -> Result<(), CommandError> {
    let config = given.load().map_err(CommandError::Settings)?;
    let (clock, random) = (&SystemClock, &SystemRandom);
    let restored = match (&config.database, path) {
        (Database::File(address), Some(path)) => {
            SqliteStore::restore(address, path, keep_sessions, DEADLINE, clock, random).await?
        }
        (Database::Server(Server { url, .. }), None) => {
            PostgresStore::restored(url, keep_sessions, DEADLINE, clock, random).await?
        }
        (Database::File(_), None) => return Err(CommandError::OtherTool("give the path of a backup of SQLite")),
        (Database::Server(_), Some(_)) => {
            return Err(CommandError::OtherTool(
                "pg_restore puts a backup of PostgreSQL back; then run `permcast restore --new-epoch`",
            ));
        }
    };
    let Restored { before, after, users } = restored;
    let what = path.map_or_else(|| config.database.to_string(), |path| path.display().to_string());
    say(&format!("restored    {what}"))?;
    say(&match before {
        Some(before) => format!(
            "epoch       {} (was {})\nhead        {} (was {})",
            after.epoch, before.epoch, after.seq, before.seq
        ),
        None => format!("epoch       {}\nhead        {}", after.epoch, after.seq),
    })?;
    say(&format!("users       {users}"))?;
    say(if keep_sessions { "sessions    kept" } else { "sessions    all ended" })
}

async fn lockdown(what: Lockdown, given: Given) -> Result<(), CommandError> {
    let (store, _) = open(given).await?;
    let set = |lockdown| Unit { actor: ACTOR, operations: vec![Operation::SetLockdown(lockdown)] };
    match what {
        Lockdown::Status => {}
        Lockdown::On { only, retry_after } => {
            let lockdown = NewLockdown { tenant: only, retry_after_s: retry_after, until: None };
            store.write(set(Some(lockdown))).await?;
        }
        Lockdown::Off => {
            store.write(set(None)).await?;
        }
    }
    let said = match store.lockdown().await? {
        None => "no lockdown".to_owned(),
        Some(lockdown) => {
            let whom = lockdown.tenant.map_or_else(|| "everyone".to_owned(), |tenant| format!("tenant {tenant}"));
            format!("lockdown of {whom} since {}; operators alone are served", lockdown.since)
        }
    };
    store.close().await;
    say(&said)
}

async fn keys(what: Keys, given: Given) -> Result<(), CommandError> {
    let (store, config) = open(given).await?;
    let vault = match &config.key_encryption_key {
        Some(key) => Vault::with_key(&key.0)?,
        None => Vault::plain(),
    };
    let keys = KeySet::open(
        Arc::clone(&store),
        Arc::new(vault),
        config.token_algorithm.parse()?,
        config.access_token_ttl,
        Arc::new(SystemClock),
        Arc::new(SystemRandom),
    )
    .await?;
    match what {
        Keys::List => {}
        Keys::Rotate { revoke, sessions } => {
            let written = keys.rotate(ACTOR, revoke, sessions).await?;
            say(&format!("rotated at {}", written.version))?;
        }
        Keys::Retire { kid } => {
            let written = keys.retire(ACTOR, &kid).await?;
            say(&format!("retired at {}", written.version))?;
        }
    }
    say(&keys.jwks())?;
    store.close().await;
    Ok(())
}

async fn watch(tenant: Option<TenantName>, after: Option<u64>, given: Given) -> Result<(), CommandError> {
    let (store, _) = open(given).await?;
    let head = store.tail(Seq::MAX).await?.head;
    let mut position = after.and_then(Seq::new).unwrap_or(head);
    loop {
        let rows = store.changes(tenant.as_ref(), position, 1000).await?;
        for row in &rows {
            let change = &row.change;
            let line = serde_json::json!({
                "seq": change.seq, "at": change.at, "actor": row.actor, "kind": change.target.kind(),
                "tenant": change.target.tenant(), "target": change.target.name(), "effect": change.effect,
                "summary": row.summary,
            });
            say(&line.to_string())?;
            position = change.seq;
        }
        if rows.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(WATCH_EVERY) => {}
                () = crate::runtime::stop_signal() => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    async fn run(line: &[&str], url: &str) -> Result<(), CommandError> {
        let address = ["--database-url", url];
        let words = ["permcast"].iter().chain(line).chain(&address);
        <Line as clap::Parser>::try_parse_from(words).unwrap().command.carry_out().await
    }

    #[tokio::test]
    async fn a_lockdown_and_a_rotation_made_here_are_in_the_log_and_in_a_backup() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let url = format!("sqlite://{}", path("live.db"));
        run(&["lockdown", "on", "--retry-after", "7"], &url).await.unwrap();
        run(&["keys", "rotate", "--revoke"], &url).await.unwrap();
        run(&["backup", &path("copy.db")], &url).await.unwrap();
        assert!(run(&["backup", &path("copy.db")], &url).await.is_err(), "a backup is not written over");
        for name in ["live.db", "copy.db"] {
            let words =
                ["permcast", "migrate", "--database-url", &format!("sqlite://{}", path(name))].map(String::from);
            let Command::Migrate { given } = <Line as clap::Parser>::try_parse_from(words).unwrap().command else {
                panic!("migrate is migrate");
            };
            let (store, _) = open(given).await.unwrap();
            assert_eq!(store.lockdown().await.unwrap().map(|lockdown| lockdown.retry_after_s), Some(7), "{name}");
            let rows = store.changes(None, Seq::ZERO, 100).await.unwrap();
            assert!(rows.iter().any(|row| row.actor == "cli" && row.change.target.kind().as_str() == "everyone"));
            store.close().await;
        }
    }
}
