//! What is written for those who deploy it: every setting that it names exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What starts with our name and is no setting of ours: it is read by NATS, from `deploy/nats`.
const OF_NATS: [&str; 7] = [
    "PERMCAST_NATS_PASSWORD",
    "PERMCAST_NATS_SUBSCRIBER_PASSWORD",
    "PERMCAST_NATS_ACME_PASSWORD",
    "PERMCAST_NATS_ROUTE_PASSWORD",
    "PERMCAST_NATS_NKEY",
    "PERMCAST_NATS_SUBSCRIBER_NKEY",
    "PERMCAST_NATS_ACME_NKEY",
];
/// What those who build and test it set.
const OF_TESTS: [&str; 3] = ["PERMCAST_CHAOS_", "PERMCAST_SIM_", "PERMCAST_BIN"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn below(directory: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(root().join(directory)).unwrap() {
        let path = entry.unwrap().path();
        match path.strip_prefix(root()).unwrap().to_str() {
            Some(inner) if path.is_dir() => below(inner, found),
            _ => found.push(path),
        }
    }
}

fn names(text: &str) -> BTreeSet<&str> {
    let is_of_name = |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    let starts = text.match_indices("PERMCAST_").map(|(at, _)| &text[at..]);
    starts.map(|rest| &rest[..rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len())]).collect()
}

#[test]
fn every_setting_that_a_deployment_names_exists() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_permcast")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let settings = names(&help);
    assert!(settings.contains("PERMCAST_LISTEN") && settings.contains("PERMCAST_CONFIG"), "{settings:?}");
    let mut files = Vec::new();
    below("deploy", &mut files);
    below("docs", &mut files);
    files
        .extend(["README.md", "Dockerfile", "docker-compose.yml", "compose.cluster.yml"].map(|name| root().join(name)));
    let mut seen = BTreeSet::new();
    for path in files {
        // Pictures name nothing.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for name in names(&text) {
            let exists = settings.contains(name)
                || OF_NATS.contains(&name)
                || OF_TESTS.iter().any(|start| name.starts_with(start));
            assert!(exists, "{}: there is no setting {name}", path.display());
            seen.insert(name.to_owned());
        }
    }
    for name in OF_NATS.iter().chain(&["PERMCAST_NATS_CREDENTIALS_FILE", "PERMCAST_TRUSTED_PROXIES"]) {
        assert!(seen.contains(*name), "{name} is named nowhere");
    }
}
