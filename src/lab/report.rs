//! What was measured, and how it is shown. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// How long something took, many times.
#[derive(Debug, Clone, Default)]
pub(super) struct Times(Vec<Duration>);

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }
}

impl Times {
    /// The time that this share of them did not exceed, in thousandths.
    pub(super) fn per_mille(&self, share: usize) -> Option<Duration> {
        let last = self.0.len().checked_sub(1)?;
        Some(self.0[(self.0.len() * share / 1000).min(last)])
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// One line: nanoseconds, as far as they mean something.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) p50: f64,
    pub(super) p99: Option<f64>,
    pub(super) per_second: Option<f64>,
    /// Whether it is what the rest of its group is held against: what the machine itself takes.
    pub(super) floor: bool,
}

impl Row {
    /// Of something too short to be timed once.
    pub(super) fn nanos(what: &str, each: f64) -> Self {
        Self { what: what.to_owned(), p50: each, p99: None, per_second: None, floor: false }
    }

    /// Of single times; `None` where there are none.
    pub(super) fn times(what: &str, times: &Times) -> Option<Self> {
        let nanos = |duration: Duration| duration.as_secs_f64() * 1e9;
        let (p50, p99) = (nanos(times.per_mille(500)?), times.per_mille(990).map(nanos));
        Some(Self { p99, ..Self::nanos(what, p50) })
    }

    /// With how often it was done in a second.
    #[must_use]
    pub(super) fn rate(self, per_second: f64) -> Self {
        Self { per_second: Some(per_second), ..self }
    }

    /// As the floor of its group.
    #[must_use]
    pub(super) fn into_floor(self) -> Self {
        Self { floor: true, ..self }
    }
}

/// Rows that are held against one floor.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) rows: Vec<Row>,
}

impl Group {
    fn floor(&self) -> Option<f64> {
        self.rows.iter().find(|row| row.floor).map(|row| row.p50)
    }

    fn times_floor(&self, row: &Row) -> Option<f64> {
        self.floor().filter(|floor| !row.floor && *floor > 0.0).map(|floor| row.p50 / floor)
    }
}

/// For people.
pub(super) fn table(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        let _ = writeln!(text, "{:<58}{:>10}{:>10}{:>12}{:>10}", group.title, "p50", "p99", "a second", "× floor");
        for row in &group.rows {
            let what = if row.floor { format!("floor: {}", row.what) } else { row.what.clone() };
            let shown = |nanos: Option<f64>| nanos.map(time).unwrap_or_default();
            let rate = row.per_second.map(|rate| format!("{rate:.0}")).unwrap_or_default();
            let floors = group.times_floor(row).map(ratio).unwrap_or_default();
            let _ = writeln!(text, "  {what:<56}{:>10}{:>10}{rate:>12}{floors:>10}", time(row.p50), shown(row.p99));
        }
        text.push('\n');
    }
    text
}

/// For programs.
pub(super) fn json(groups: &[Group]) -> Value {
    let rows = groups.iter().flat_map(|group| {
        group.rows.iter().map(|row| {
            json!({
                "group": group.title, "what": row.what, "floor": row.floor, "p50_ns": row.p50, "p99_ns": row.p99,
                "per_second": row.per_second, "times_floor": group.times_floor(row),
            })
        })
    });
    Value::Array(rows.collect())
}

/// Two figures that count.
fn ratio(ratio: f64) -> String {
    if ratio < 1.0 { format!("{ratio:.2}") } else { format!("{ratio:.1}") }
}

fn time(nanos: f64) -> String {
    match nanos {
        n if n < 100.0 => format!("{n:.1} ns"),
        n if n < 10_000.0 => format!("{n:.0} ns"),
        n if n < 1e7 => format!("{:.0} µs", n / 1e3),
        n => format!("{:.0} ms", n / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_was_measured() {
        let times: Times = (1..=1000).rev().map(Duration::from_micros).collect();
        assert_eq!(times.per_mille(500), Some(Duration::from_micros(501)));
        assert_eq!(times.per_mille(990), Some(Duration::from_micros(991)));
        assert_eq!(times.per_mille(1000), Some(Duration::from_millis(1)));
        assert_eq!(Times::default().per_mille(500), None);
    }

    #[test]
    fn rows_are_held_against_the_floor_of_their_group() {
        let rows = vec![Row::nanos("ours", 300.0), Row::nanos("the machine's", 100.0).into_floor()];
        let groups = [Group { title: "something", rows }];
        let shown = table(&groups);
        assert!(shown.lines().any(|line| line.contains("ours") && line.ends_with("3.0")), "{shown}");
        assert!(shown.contains("floor: the machine's"), "{shown}");
        let rows = json(&groups);
        assert_eq!((&rows[0]["times_floor"], &rows[1]["times_floor"]), (&json!(3.0), &Value::Null));
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        let shown: Vec<String> = [1.64, 640.0, 12_345.0, 4.5e8].into_iter().map(time).collect();
        assert_eq!(shown, ["1.6 ns", "640 ns", "12 µs", "450 ms"]);
    }
}
