//! What is counted, what the documents say is counted, and what dashboards and alerts ask for are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use permcast::telemetry::{Kind, Label, METRICS, Metric};

use crate::harness::Cluster;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files(folder: &str, end: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == end) {
                found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

fn kind(metric: &Metric) -> &'static str {
    match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    }
}

/// Every `permcast_…` in a text, with what stands right after it.
fn named(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("permcast_").map(|(at, _)| {
        let end =
            text[at..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(text.len(), |end| at + end);
        (&text[at..end], &text[end..])
    })
}

#[test]
fn every_metric_that_is_counted_is_in_the_catalogue_and_nothing_else_is() {
    let mut counted: BTreeMap<String, &str> = BTreeMap::new();
    for (path, text) in files("src", "rs").iter().filter(|(path, _)| !path.ends_with("catalog.rs")) {
        for kind in ["counter", "gauge", "histogram"] {
            for (at, found) in text.match_indices(&format!("{kind}!(")) {
                let rest = text[at + found.len()..].trim_start();
                let name = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
                let (name, _) =
                    name.unwrap_or_else(|| panic!("{path}: a metric's name is written where it is counted"));
                counted.insert(name.to_owned(), kind);
            }
        }
    }
    let known: BTreeMap<String, &str> = METRICS.iter().map(|metric| (metric.name.to_owned(), kind(metric))).collect();
    assert_eq!(counted, known);
}

#[test]
fn the_document_lists_the_catalogue() {
    let document = read("docs/metrics.md");
    let rows: BTreeSet<String> = document.lines().filter(|line| line.starts_with("| `permcast_")).map(plain).collect();
    let wanted: BTreeSet<String> = METRICS.iter().map(|metric| plain(&row(metric))).collect();
    let lacking: Vec<_> = wanted.difference(&rows).collect();
    let idle: Vec<_> = rows.difference(&wanted).collect();
    assert!(lacking.is_empty() && idle.is_empty(), "docs/metrics.md lacks {lacking:#?} and has no use for {idle:#?}");
}

/// How an empty cell is spaced says nothing.
fn plain(row: &str) -> String {
    row.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn row(metric: &Metric) -> String {
    let labels: Vec<String> = match metric.label {
        Label::None => Vec::new(),
        Label::Of(name, values) => vec![format!("`{name}`: {}", values.join(", "))],
        Label::Free(names) => names.iter().map(|name| format!("`{name}`")).collect(),
    };
    format!("| `{}` | {} | {} | {} |", metric.name, kind(metric), labels.join(", "), metric.help)
}

#[test]
fn dashboards_and_alerts_ask_for_what_exists() {
    let texts: Vec<_> = files("deploy", "json").into_iter().chain(files("deploy", "yml")).collect();
    let mut asked = BTreeSet::new();
    for (path, text) in &texts {
        for (name, rest) in named(text) {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let found = METRICS.iter().find(|metric| match metric.kind {
                Kind::Histogram(_) => of_histogram == Some(metric.name),
                Kind::Counter | Kind::Gauge => metric.name == name,
            });
            let metric = found.unwrap_or_else(|| panic!("{path}: there is no {name}"));
            asked.insert(metric.name);
            // `name{label="value"}`: the label is one of its own, or one that Prometheus puts there.
            let matchers = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inner, _)| inner);
            for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
                let label = matcher.split(['=', '!']).next().unwrap().trim();
                assert!(
                    metric.label.names().contains(&label) || ["job", "instance"].contains(&label),
                    "{path}: {name} has no label {label}"
                );
            }
        }
    }
    for what in ["audit_mismatches_total", "lag_seconds", "freshness_seconds", "refresh_reuse_total"] {
        assert!(asked.contains(format!("permcast_{what}").as_str()), "nothing looks at permcast_{what}");
    }
}

#[tokio::test]
async fn a_replica_shows_what_is_promised_from_the_start() {
    let cluster = Cluster::start().await;
    let shown = crate::harness::until("the metrics", async || {
        let text = cluster.a.client().get("/metrics").await.ok().body.as_str().unwrap().to_owned();
        // The lag is there once the log was read, the floors once anything was.
        (text.contains("\npermcast_lag_seconds ") && text.contains("\npermcast_floors ")).then_some(text)
    })
    .await;
    for metric in METRICS.iter().filter(|metric| !matches!(metric.label, Label::Free(_))) {
        let series: Vec<String> = match metric.label {
            Label::Of(label, values) => values.iter().map(|value| format!("{label}=\"{value}\"")).collect(),
            Label::None | Label::Free(_) => vec![String::new()],
        };
        let end = if matches!(metric.kind, Kind::Histogram(_)) { "_count" } else { "" };
        for labels in series {
            let wanted = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let line = format!("\n{}{end}{wanted} ", metric.name);
            assert!(shown.contains(&line), "{line:?} in {shown}");
        }
        assert!(shown.contains(&format!("# TYPE {} {}\n", metric.name, kind(metric))), "{}", metric.name);
    }
}
