//! `permcast lab`: what this machine does, each figure beside the floor that the same run measured.
//!
//! An absolute figure says little on another machine; how far it is from what the disk, the network or one signature
//! take there says something anywhere.

mod disk;
mod memory;
mod network;
mod report;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::app::StartError;
use crate::bus::nats::NatsError;
use crate::canary::ProbeError;
use crate::cli::{chain, refuse};
use crate::config::{Faults, LogFormat};
use crate::domain::limits::REFRESH_GRACE;
use crate::domain::{Change, Epoch, Random};
use crate::runtime::SystemRandom;
use crate::store::{CommitListener, StoreError, StoreOptions, WriteError};
use crate::token::{KeyError, MintError};

/// Rows of the report that take a period each.
const PERIODS: u64 = 14;

/// What the laboratory can be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// What to measure, comma-separated; all of it unless said otherwise.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    only: Vec<What>,
    /// How long each row is measured; about fourteen of them make a whole run.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60), value_name = "NUMBER")]
    seconds: u64,
    /// Where its databases are made, and removed in the end: on the disk that is to be measured.
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    directory: PathBuf,
    /// A broker that carries changes between two replicas; what is said there is heard by nobody else.
    #[arg(long, env = "PERMCAST_NATS_URL", hide_env_values = true, value_name = "URLS")]
    nats_url: Option<String>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Whether a snapshot is fresh, in nanoseconds.
    Freshness,
    /// Whether a token holds, beside one bare signature.
    Tokens,
    /// Durable writes, one administrator and 32, beside SQLite alone and the bare disk.
    Writes,
    /// From a commit to a client's frame, here and on another replica, beside bare loopback and NATS.
    Arrival,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
enum LabError {
    #[error("cannot use the folder or the network")]
    Io(#[from] std::io::Error),
    #[error("the folder's path is no text")]
    Path,
    #[error(transparent)]
    Settings(#[from] Faults),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot write to SQLite alone")]
    Sqlite(#[from] sqlx::Error),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error("cannot make a key")]
    Crypto,
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error("the broker does not carry messages")]
    Broker,
    #[error("a writer stopped")]
    Stopped,
}

struct Deaf;

impl CommitListener for Deaf {
    fn committed(&self, _: Epoch, _: &[Change]) {}
}

fn options(listener: Arc<dyn CommitListener>) -> StoreOptions {
    StoreOptions {
        id_rest: Duration::from_hours(1),
        refresh_grace: REFRESH_GRACE,
        deadline: Duration::from_secs(10),
        listener,
    }
}

/// Measures, and prints what came out.
pub async fn run(options: Options) -> ExitCode {
    crate::telemetry::log("error", LogFormat::Text);
    match measure(&options).await {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => refuse(&chain(&error)),
    }
}

async fn measure(options: &Options) -> Result<String, LabError> {
    let wanted = |what| options.only.is_empty() || options.only.contains(&what);
    let period = Duration::from_secs(options.seconds);
    let folder = Folder::new(&options.directory)?;
    if options.only.is_empty() {
        eprintln!("measuring for about {} s", options.seconds * PERIODS);
    }
    if cfg!(debug_assertions) {
        eprintln!("this build is not optimised: its figures say nothing");
    }
    let mut groups = Vec::new();
    for (what, doing) in [
        (What::Freshness, "is a snapshot fresh?"),
        (What::Tokens, "does a token hold?"),
        (What::Writes, "durable writes"),
        (What::Arrival, "how soon a change arrives"),
    ] {
        if !wanted(what) {
            continue;
        }
        eprintln!("… {doing}");
        groups.push(match what {
            What::Freshness => memory::freshness(period),
            What::Tokens => memory::tokens(period).await?,
            What::Writes => disk::writes(&folder.0, period).await?,
            What::Arrival => {
                let broker = options.nats_url.as_deref().filter(|url| !url.is_empty());
                network::arrival(&folder.0, broker, period).await?
            }
        });
    }
    Ok(if options.json { format!("{:#}\n", report::json(&groups)) } else { report::table(&groups) })
}

/// A folder of its own, removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new(within: &Path) -> Result<Self, LabError> {
        let random: &dyn Random = &SystemRandom;
        let folder = within.join(format!("permcast-lab-{}", Epoch::from_random(random.bytes())));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("permcast: {} is left behind: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
#[path = "lab_tests.rs"]
mod tests;
