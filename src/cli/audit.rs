//! `permcast audit`: whether the trail is whole, and all of it as JSON lines.

use std::str::FromStr;

use super::{CommandError, Given, open, say};
use crate::domain::{TenantName, Timestamp};
use crate::http::audit::shown;
use crate::store::audit::{AuditQuery, ChainCheck, ChainHash};

/// Entries read at once.
const AT_ONCE: u32 = 1_000;

/// What to do with the audit trail.
#[derive(clap::Subcommand)]
pub enum Audit {
    /// Compute all hashes anew, and name the first entry that was altered, removed or put in.
    ///
    /// It ends with the last entry's number and hash. Keep them elsewhere and hand them in the next time: whoever can
    /// write to the database could hash all of it anew, or cut off its end, and only what was kept elsewhere shows that.
    Verify {
        /// What an earlier run ended with: `<entry>:<hash>`.
        #[arg(long, value_name = "ENTRY:HASH")]
        kept: Option<Kept>,
    },
    /// Print it as JSON lines.
    Export {
        /// Only this tenant's entries.
        #[arg(long)]
        tenant: Option<TenantName>,
        /// From this time on (RFC 3339).
        #[arg(long)]
        since: Option<Timestamp>,
        /// Before this time (RFC 3339).
        #[arg(long)]
        until: Option<Timestamp>,
        /// Behind this entry.
        #[arg(long, default_value_t = 0)]
        after: i64,
    },
}

/// A hash that was kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept(i64, ChainHash);

impl FromStr for Kept {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "wanted is <entry>:<hash>, as `audit verify` prints it";
        let (id, hash) = text.split_once(':').ok_or(WANTED)?;
        if hash.len() != 64 || !hash.is_ascii() {
            return Err(WANTED);
        }
        let mut bytes = ChainHash::default();
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hash[2 * at..2 * at + 2], 16).map_err(|_| WANTED)?;
        }
        Ok(Self(id.parse().map_err(|_| WANTED)?, bytes))
    }
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.0)?;
        self.1.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

pub(super) async fn audit(what: Audit, given: Given) -> Result<(), CommandError> {
    match what {
        Audit::Verify { kept } => verify(kept, given).await,
        Audit::Export { tenant, since, until, after } => {
            let limit = AT_ONCE;
            export(AuditQuery { tenant, since, until, after, limit, ..AuditQuery::default() }, given).await
        }
    }
}

async fn verify(kept: Option<Kept>, given: Given) -> Result<(), CommandError> {
    let (store, _) = open(given).await?;
    let mut check = ChainCheck::new(kept.map(|Kept(id, hash)| (id, hash)));
    let mut after = 0;
    loop {
        let links = store.audit_links(after, AT_ONCE).await?;
        let Some(last) = links.last() else { break };
        after = last.id;
        links.iter().try_for_each(|link| check.take(link)).map_err(|fault| CommandError::Unwell(fault.to_string()))?;
    }
    let report = check.end().map_err(|fault| CommandError::Unwell(fault.to_string()))?;
    store.close().await;
    say(&format!("entries     1 to {} are as they were when they were hashed", report.last.0))?;
    if report.open > 0 {
        say(&format!("not hashed  {} behind them: a running replica does so within seconds", report.open))?;
    }
    say(&format!("keep        {}", Kept(report.last.0, report.last.1)))
}

async fn export(mut asked: AuditQuery, given: Given) -> Result<(), CommandError> {
    let (store, _) = open(given).await?;
    loop {
        let entries = store.audit(&asked).await?;
        let Some(last) = entries.last() else { break };
        asked.after = last.id;
        for entry in &entries {
            say(&shown(entry).to_string())?;
        }
    }
    store.close().await;
    Ok(())
}
