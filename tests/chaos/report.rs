//! What is shown of a verdict.

use std::fmt::Write as _;
use std::time::Duration;

use super::checker::{Broken, Verdict};
use super::history::History;

fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// The table, and where something is broken an account of the first violation of each kind.
pub(crate) fn shown(history: &History, verdict: &Verdict, duration: Duration, again: &str) -> String {
    let mut text = String::new();
    let columns = ("under", "faults", "decisions", "stale", "worst allow", "worst");
    let _ = writeln!(
        text,
        "{:<16} {:>7} {:>10} {:>7} {:>12} {:>8}",
        columns.0, columns.1, columns.2, columns.3, columns.4, columns.5
    );
    for (kind, seen) in &verdict.seen {
        let (allow, worst) = (ms(seen.worst_allow), ms(seen.worst));
        let _ = writeln!(
            text,
            "{kind:<16} {:>7} {:>10} {:>7} {allow:>12} {worst:>8}",
            seen.faults, seen.decisions, seen.stale
        );
    }
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<32} {value}");
    };
    row("", String::new());
    row("time", format!("{} s", duration.as_secs()));
    row("decisions checked", history.decisions.len().to_string());
    row("changes in the log", history.log.iter().filter(|row| row.seq > history.origin).count().to_string());
    row("operations asked for", history.operations.len().to_string());
    row("operations acknowledged", verdict.acknowledged.to_string());
    row("done without an answer", verdict.unanswered.to_string());
    row("changes lost", verdict.count(Broken::ChangeLost).to_string());
    row("half applied", verdict.count(Broken::HalfApplied).to_string());
    row("connections", history.connections.len().to_string());
    row("changes to be told to them", verdict.to_be_told.to_string());
    row("slowest told", ms(verdict.slowest_told));
    row("clients untold", verdict.count(Broken::Untold).to_string());
    row("short grants", history.visits.len().to_string());
    row("answers about them", history.asked_about_guests.to_string());
    row("latest yes after their time", ms(verdict.longest_overstay));
    row("most memory of a replica", format!("{} MB", history.memory / 1_000_000));
    row("violations", verdict.violations.len().to_string());
    let mut shown = Vec::new();
    for violation in &verdict.violations {
        if !shown.contains(&violation.broken) {
            shown.push(violation.broken);
            let count = verdict.count(violation.broken);
            let _ = writeln!(
                text,
                "\n{:?}, {count} in all; the first after {:?}:\n  {}",
                violation.broken, violation.at, violation.account
            );
        }
    }
    if !verdict.violations.is_empty() {
        let _ = writeln!(text, "\nonce more with the same choices: {again}");
    }
    text
}
