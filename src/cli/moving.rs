//! `permcast move`: from a file to a server.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use super::{CommandError, DEADLINE, say};
use crate::config::{Database, Server};
use crate::runtime::SystemRandom;
use crate::store::moving::{self, Move, Moved, Pass, Progress, Rows};

pub(super) async fn relocate(from: &str, to: &str, password_file: Option<&Path>) -> Result<(), CommandError> {
    let source =
        Database::new(from, None, None).map_err(|_| CommandError::OtherTool("--from: sqlite:// and a path"))?;
    let target = Database::new(to, password_file, None).map_err(CommandError::Settings)?;
    let (Database::File(from), Database::Server(Server { url, .. })) = (&source, &target) else {
        return Err(CommandError::OtherTool("move goes from a sqlite:// database to a postgres:// one"));
    };
    let shown = target.to_string();
    let terminal = std::io::stderr().is_terminal();
    let mut tell = |progress: Progress<'_>| {
        if terminal {
            let end = if progress.done == progress.of { "\n" } else { "" };
            // Whether anybody sees it makes no difference.
            let _ = write!(std::io::stderr(), "\r{}{end}", bar(progress));
        }
    };
    let wanted = Move { from, to: url, shown: &shown, deadline: DEADLINE };
    let Moved { version, rows } = moving::relocate(wanted, &SystemRandom, &mut tell).await?;
    say(&match rows {
        Some(Rows { all, before }) => {
            let resumed = if before == 0 { String::new() } else { format!("; {before} were there already") };
            format!("moved       {all} rows, compared one by one{resumed}\nto          {shown}\nhead        {version}")
        }
        None => format!("moved before to {shown}; head {version}"),
    })?;
    say(
        "            start replicas with PERMCAST_DATABASE_URL set to it; those left on the file decide nothing any more",
    )
}

/// How far it is: what was there already, then what came.
fn bar(Progress { pass, table, done, of, found }: Progress<'_>) -> String {
    const WIDTH: u64 = 24;
    let doing = match pass {
        Pass::Copying => "copying",
        Pass::Comparing => "comparing",
    };
    let part = |rows: u64| usize::try_from((rows * WIDTH).checked_div(of).unwrap_or(WIDTH)).unwrap_or_default();
    let (found, all) = (part(found), part(done));
    let (old, new) = ("=".repeat(found), "#".repeat(all.saturating_sub(found)));
    format!("{doing:<10} {table:<17} [{:<24}] {done} of {of}", old + &new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_tells_what_was_there_before() {
        let at = |found, done, of| bar(Progress { pass: Pass::Copying, table: "users", done, of, found });
        assert_eq!(at(0, 0, 0), format!("copying    users             [{}] 0 of 0", "=".repeat(24)));
        assert_eq!(
            at(4, 8, 16),
            format!("copying    users             [{}] 8 of 16", "======######".to_owned() + &" ".repeat(12))
        );
    }
}
