//! What was measured: medians of the rounds, as a table for people and as JSON.

use serde_json::{Map, Value, json};

/// Figures of one program under one load.
pub struct Row {
    pub measure: &'static str,
    pub subject: &'static str,
    /// Name, unit included, and figure.
    pub figures: Vec<(&'static str, f64)>,
}

impl Row {
    pub fn new(measure: &'static str, subject: &'static str, figures: &[(&'static str, f64)]) -> Self {
        Self { measure, subject, figures: figures.to_vec() }
    }

    /// The median of each figure over rounds of the same.
    pub fn median(rounds: &[Self]) -> Self {
        let first = &rounds[0];
        let middle = |at: usize| {
            let mut all: Vec<f64> = rounds.iter().map(|row| row.figures[at].1).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let figures = first.figures.iter().enumerate().map(|(at, (name, _))| (*name, middle(at))).collect();
        Self { figures, ..*first }
    }
}

/// The value below which this part of them lies.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
pub fn quantile(values: &[u64], part: f64) -> u64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// A table a measure; programs are lines.
pub fn print(rows: &[Row]) {
    let mut measures: Vec<&str> = Vec::new();
    for row in rows {
        if !measures.contains(&row.measure) {
            measures.push(row.measure);
        }
    }
    for measure in measures {
        println!("\n{measure}");
        for row in rows.iter().filter(|row| row.measure == measure) {
            print!("  {:<12}", row.subject);
            for (name, figure) in &row.figures {
                let digits = if figure.abs() < 100.0 { 2 } else { 0 };
                print!("  {name} {figure:.digits$}");
            }
            println!();
        }
    }
}

/// The same for programs.
pub fn json(rows: &[Row], settings: &Value) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let figures: Map<String, Value> =
                row.figures.iter().map(|&(name, figure)| (name.to_owned(), json!(figure))).collect();
            json!({ "measure": row.measure, "subject": row.subject, "figures": figures })
        })
        .collect();
    json!({ "settings": settings, "rows": rows })
}
