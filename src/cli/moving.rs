//! `permcast move`: from a file to a server.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use super::{CommandError, DEADLINE, say};
use crate::config::{Database, Server};
use crate::runtime::SystemRandom;
use crate::store::moving::{self, Move, Moved};

pub(super) async fn relocate(from: &str, to: &str, password_file: Option<&Path>) -> Result<(), CommandError> {
    let source =
        Database::new(from, None, None).map_err(|_| CommandError::OtherTool("--from: sqlite:// and a path"))?;
    let target = Database::new(to, password_file, None).map_err(CommandError::Settings)?;
    let (Database::File(from), Database::Server(Server { url, .. })) = (&source, &target) else {
        return Err(CommandError::OtherTool("move goes from a sqlite:// database to a postgres:// one"));
    };
    let shown = target.to_string();
    let terminal = std::io::stderr().is_terminal();
    let mut tell = |table: &str, done: u64, of: u64| {
        // Whether anybody sees it makes no difference.
        let _ = match (terminal, done == of) {
            (true, false) => write!(std::io::stderr(), "\r{table:<18} {done} of {of}"),
            (true, true) => writeln!(std::io::stderr(), "\r{table:<18} {done} of {of}"),
            (false, _) => Ok(()),
        };
    };
    let wanted = Move { from, to: url, shown: &shown, deadline: DEADLINE };
    let Moved { version, rows } = moving::relocate(wanted, &SystemRandom, &mut tell).await?;
    say(&match rows {
        Some(rows) => {
            format!("moved       {rows} rows, compared one by one\nto          {shown}\nhead        {version}")
        }
        None => format!("moved before to {shown}; head {version}"),
    })?;
    say(
        "            start replicas with PERMCAST_DATABASE_URL set to it; those left on the file decide nothing any more",
    )
}
