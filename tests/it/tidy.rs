//! The rules of the house that no compiler holds: who may import whom, who may start tasks and read the clock, how long a
//! file may be, and that the documents point at what exists. It reads the sources as text and needs nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What a room may use of the others. A room that is not here may not exist.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("protocol", &["domain"]),
    // Usable by every room that does I/O.
    ("config", &["domain"]),
    ("runtime", &["domain"]),
    ("telemetry", &["domain", "config"]),
    // These do not know each other; only what lives in the database is known to those who keep copies of it.
    ("store", &["domain", "protocol", "+"]),
    ("bus", &["domain", "protocol", "+"]),
    ("hub", &["domain", "protocol"]),
    ("cache", &["domain", "protocol", "store", "+"]),
    ("token", &["domain", "protocol", "store", "+"]),
    // What a trusted issuer says is told in the words that tokens have.
    ("issuer", &["domain", "protocol", "store", "token", "+"]),
    ("feed", &["domain", "protocol", "store", "bus", "cache", "token", "hub", "+"]),
    ("selfcheck", &["domain", "protocol", "store", "cache", "hub", "feed", "+"]),
    ("gate", &["domain", "protocol", "store", "cache", "token", "issuer", "feed", "+"]),
    ("socket", &["domain", "protocol", "cache", "token", "hub", "feed", "gate", "+"]),
    ("canary", &["domain", "protocol", "store", "token", "feed", "socket", "+"]),
    ("http", &["domain", "protocol", "store", "bus", "cache", "token", "issuer", "hub", "feed", "gate", "socket", "+"]),
    ("app", &["*"]),
    ("demo", &["*"]),
    ("cli", &["*"]),
    ("lab", &["*"]),
    // Readers of all rooms, for tests and fuzzers alone.
    ("fuzzing", &["*"]),
    ("main", &["*"]),
];
/// What `+` stands for above.
const IMPURE: &[&str] = &["config", "runtime", "telemetry"];

/// The purest rooms: no waiting, and the time and the dice are handed in.
const PURE: &[&str] = &["domain", "protocol"];

/// Who may start a task, and who waits for it.
const OWNERS: &[(&str, &str)] = &[
    ("src/runtime/lifecycle.rs", "is the owner of all others"),
    ("src/runtime/system.rs", "waits for the second signal, which ends the process"),
    ("src/app.rs", "waits for the server when it stops"),
    ("src/demo.rs", "reads the broker's log until the broker ends"),
    ("src/store/sql/store.rs", "waits for the writer when it closes"),
    ("src/socket/mod.rs", "a tracker of connections, waited for when they are drained"),
];

const FILE_LINES_MAX: usize = 500;

#[test]
fn rooms_import_only_what_stands_below_them() {
    let mut faults = Faults::default();
    for source in sources() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(room, _)| *room == source.room) else {
            faults.at(&source, 1, format_args!("the room {:?} has no place in the order of the rooms", source.room));
            continue;
        };
        for (number, line) in &source.code {
            for used in uses(line, &source) {
                let known = MAY_USE.iter().any(|(room, _)| *room == used);
                let free = used == source.room
                    || allowed.contains(&"*")
                    || allowed.contains(&used.as_str())
                    || (allowed.contains(&"+") && IMPURE.contains(&used.as_str()));
                if !known || !free {
                    faults.at(&source, *number, format_args!("{} may not use {used}", source.room));
                }
            }
        }
    }
    faults.none();
}

#[test]
fn what_decides_does_not_wait() {
    let mut faults = Faults::default();
    for source in sources() {
        if !source.path.ends_with("/state.rs") && !PURE.contains(&source.room.as_str()) {
            continue;
        }
        for (number, line) in &source.code {
            for word in ["async", "await", "tokio", "sqlx", "actix_web"] {
                if has_word(line, word) {
                    faults.at(&source, *number, format_args!("{word} where decisions are made"));
                }
            }
        }
    }
    faults.none();
}

#[test]
fn every_task_has_an_owner() {
    let mut faults = Faults::default();
    for source in sources() {
        if OWNERS.iter().any(|(path, _)| *path == source.path) {
            continue;
        }
        for (number, line) in &source.code {
            for word in ["tokio::spawn", "task::spawn(", "rt::spawn", "spawn_local", "thread::spawn", "process::exit"] {
                if line.contains(word) {
                    faults.at(&source, *number, format_args!("{word}: spawn it by the Lifecycle"));
                }
            }
        }
    }
    for (path, does) in OWNERS {
        assert!(root().join(path).exists(), "{path} ({does}) is gone: take it off the list of owners");
    }
    faults.none();
}

#[test]
fn clocks_and_dice_are_handed_in() {
    let mut faults = Faults::default();
    for source in sources() {
        if source.room == "runtime" {
            continue;
        }
        // Deadlines and timers run on tokio's clock, which a test can stop.
        let timers =
            source.code.iter().any(|(_, line)| line.starts_with("use tokio::time::") && has_word(line, "Instant"))
                && !source.code.iter().any(|(_, line)| line.contains("std::time") && has_word(line, "Instant"));
        for (number, line) in &source.code {
            let line = line.replace("tokio::time::Instant::now", "");
            let instant = line.contains("Instant::now") && (!timers || source.is_pure());
            let ambient = ["SystemTime", "Timestamp::now", "Zoned::now", "rand::rng", "thread_rng", "getrandom"];
            for word in ambient.into_iter().filter(|word| line.contains(word)).chain(instant.then_some("Instant::now"))
            {
                faults.at(
                    &source,
                    *number,
                    format_args!("{word}: take domain::clock::{{Clock, Random}} as a parameter"),
                );
            }
        }
    }
    faults.none();
}

#[test]
fn every_queue_has_a_bound_and_nothing_gives_up_by_unwrap() {
    let mut faults = Faults::default();
    for source in sources() {
        for (number, line) in &source.code {
            for (word, instead) in [
                ("unbounded", "every queue has a bound"),
                (".unwrap()", "return an error, or state the invariant by expect"),
                ("unsafe ", "forbidden"),
                ("dbg!(", "left behind"),
            ] {
                if line.contains(word) {
                    faults.at(&source, *number, format_args!("{word}: {instead}"));
                }
            }
        }
    }
    faults.none();
}

#[test]
fn files_do_one_thing() {
    let mut faults = Faults::default();
    for source in sources() {
        if source.lines > FILE_LINES_MAX {
            let said = format!("{} lines outside tests, at most {FILE_LINES_MAX}", source.lines);
            faults.at(&source, source.lines, said);
        }
    }
    faults.none();
}

#[test]
fn only_the_feed_publishes_and_notifies() {
    // What `http` has of the broker is whether it is connected, for /readyz; the laboratory talks to itself.
    let mut faults = Faults::default();
    for source in sources()
        .into_iter()
        .filter(|source| !["feed", "app", "demo", "lab", "bus", "hub"].contains(&source.room.as_str()))
    {
        for (number, line) in &source.code {
            for word in [".publish", "hub.tell", "hub.begin_epoch("] {
                if line.contains(word) {
                    faults.at(&source, *number, format_args!("{word}…) is the feed's alone"));
                }
            }
        }
    }
    faults.none();
}

#[test]
fn documents_point_at_what_exists() {
    let mut faults = String::new();
    for path in files(&root()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let text = read(&path);
        for target in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let whole =
                if file.is_empty() { path.clone() } else { path.parent().expect("a file has a folder").join(file) };
            if !whole.exists() {
                let _ = writeln!(faults, "{}: {target} does not exist", shown(&path));
            } else if !anchor.is_empty() && !anchors(&read(&whole)).contains(&anchor.to_owned()) {
                let _ = writeln!(faults, "{}: {target}: no such heading", shown(&path));
            }
        }
        for (number, line) in text.lines().enumerate() {
            for named in mentioned_paths(line) {
                if !root().join(named).exists() && !path.with_file_name(named).exists() {
                    let _ = writeln!(faults, "{}:{}: {named} does not exist", shown(&path), number + 1);
                }
            }
            for (module, test) in mentioned_tests(line) {
                let file = root().join(format!("tests/it/{module}.rs"));
                if file.exists() && !read(&file).contains(&format!("fn {test}(")) {
                    let _ = writeln!(faults, "{}:{}: {module}::{test} does not exist", shown(&path), number + 1);
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn nothing_is_left_for_later_in_the_text() {
    // Split, so that this file passes its own test.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
    ];
    let places = [concat!("/ro", "ot/.cargo"), concat!("/wo", "rk/"), concat!("/home", "/"), concat!("/Us", "ers/")];
    let mut faults = String::new();
    for path in files(&root()) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if path.file_name().is_some_and(|name| name == "package-lock.json" || name == "Cargo.lock") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(*word)) {
                let _ = writeln!(faults, "{}:{}: {word}", shown(&path), number + 1);
            }
            for place in places.iter().filter(|place| line.contains(*place)) {
                let _ = writeln!(faults, "{}:{}: {place} is somebody's machine", shown(&path), number + 1);
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

// How a source is read.

struct Source {
    /// From the root of the repository.
    path: String,
    room: String,
    /// How deep below the crate its module is: 1 for a room.
    depth: usize,
    /// Numbered lines without comments and without tests.
    code: Vec<(usize, String)>,
    /// How many lines it has, its tests not counted.
    lines: usize,
}

impl Source {
    fn is_pure(&self) -> bool {
        PURE.contains(&self.room.as_str()) || self.path.ends_with("/state.rs")
    }
}

/// Every file below `src` that is part of the program, without those that only tests compile.
fn sources() -> Vec<Source> {
    let paths: Vec<_> =
        files(&root().join("src")).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")).collect();
    assert!(paths.len() > 20, "the sources are not where they are looked for");
    let mut parts: BTreeMap<PathBuf, Split> =
        paths.into_iter().map(|path| (path.clone(), split(&read(&path)))).collect();
    // A file that is declared under cfg(test) is a test, and so is all that hangs on it.
    let tests: Vec<PathBuf> = parts.iter().flat_map(|(path, part)| part.test_files(path)).collect();
    parts.retain(|path, _| {
        !tests.iter().any(|test| {
            path == test
                || path.starts_with(test.with_extension(""))
                || (test.ends_with("mod.rs") && path.starts_with(test.with_file_name("")))
        })
    });
    parts.into_iter().map(|(path, part)| part.named(&path)).collect()
}

struct Split {
    code: Vec<(usize, String)>,
    lines: usize,
    test_modules: Vec<(String, Option<String>)>,
}

impl Split {
    /// The files of the modules that it declares for tests.
    fn test_files(&self, path: &Path) -> Vec<PathBuf> {
        let folder = path.parent().expect("a file has a folder");
        let own = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod" | "lib" | "main") | None => folder.to_owned(),
            Some(stem) => folder.join(stem),
        };
        let files = self.test_modules.iter().flat_map(|(name, at)| match at {
            Some(at) => vec![folder.join(at)],
            None => vec![own.join(format!("{name}.rs")), own.join(name).join("mod.rs")],
        });
        files.collect()
    }

    fn named(self, path: &Path) -> Source {
        let path = shown(path);
        let module: Vec<&str> = path
            .trim_start_matches("src/")
            .trim_end_matches(".rs")
            .split('/')
            .filter(|part| !["mod", "lib"].contains(part))
            .collect();
        let room = module.first().copied().unwrap_or("app").to_owned();
        Source { room, depth: module.len(), code: self.code, lines: self.lines, path }
    }
}

/// Takes comments away, and what stands under `#[cfg(test)]`. The sources are formatted, so an item ends with `;`, or with
/// a brace at the indentation at which it began.
fn split(text: &str) -> Split {
    let mut result = Split { code: Vec::new(), lines: 0, test_modules: Vec::new() };
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let is_for_tests =
            ["#[cfg(test)]", "#[cfg(any(test", "#[cfg(all(test"].iter().any(|cfg| line.trim_start().starts_with(cfg));
        if is_for_tests {
            let mut file = None;
            at += 1;
            while lines[at].trim_start().starts_with("#[") {
                file = lines[at]
                    .trim()
                    .strip_prefix("#[path = \"")
                    .and_then(|rest| rest.strip_suffix("\"]"))
                    .map(str::to_owned)
                    .or(file);
                at += 1;
            }
            let indent = lines[at].len() - lines[at].trim_start().len();
            if let Some((_, name)) =
                lines[at].trim_end_matches(';').split_once("mod ").filter(|_| lines[at].ends_with(';'))
            {
                result.test_modules.push((name.to_owned(), file));
            }
            while !(lines[at].ends_with(';') || lines[at].ends_with('}') || lines[at].ends_with(','))
                || lines[at].len() - lines[at].trim_start().len() > indent
            {
                at += 1;
            }
            at += 1;
            continue;
        }
        result.lines += 1;
        let code = uncommented(line);
        if !code.trim().is_empty() {
            result.code.push((at + 1, code.to_owned()));
        }
        at += 1;
    }
    result
}

fn uncommented(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.find(" // ").map_or(line, |at| &line[..at])
}

/// The rooms that a line names: by `crate::`, by the crate's name, or by climbing out of its own room.
fn uses(line: &str, source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["crate::", "permcast::"] {
        let mut rest = line;
        while let Some(at) = rest.find(root) {
            let whole = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$');
            rest = &rest[at + root.len()..];
            if whole {
                if let Some(group) = rest.strip_prefix('{') {
                    let names = group.split('}').next().unwrap_or(group).split(',');
                    found.extend(names.map(|name| word(name.trim())).filter(|name| !name.is_empty()));
                } else {
                    found.push(word(rest));
                }
            }
        }
    }
    let climb = "super::".repeat(source.depth);
    if let Some(at) = line.find(&climb).filter(|_| source.depth > 0) {
        found.push(word(&line[at + climb.len()..]));
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|part| part == word)
}

// How a document is read.

/// The targets of `[text](target)` and of `src="target"`.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')] {
        found.extend(text.split(opening).skip(1).filter_map(|rest| rest.split(closing).next()));
    }
    found.retain(|target| !target.contains(char::is_whitespace) && !target.is_empty());
    found
}

/// Paths in backticks that begin with a folder of ours.
fn mentioned_paths(line: &str) -> Vec<&str> {
    let ours = ["src/", "docs/", "tests/", "scripts/", "migrations/", "deploy/", "benches/", "sdk/", "web-demo/"];
    let quoted = line.split('`').skip(1).step_by(2);
    quoted
        .filter(|text| ours.iter().any(|folder| text.starts_with(folder)))
        .filter(|text| !text.contains(['*', '…', ' ', '{', '<', ':']))
        .filter(|text| !["node_modules", "dist"].iter().any(|built| text.contains(built)))
        .collect()
}

/// What stands in code marks as a test of the whole program does: its file, and its name.
fn mentioned_tests(line: &str) -> Vec<(&str, &str)> {
    let quoted = line.split('`').skip(1).step_by(2);
    // The name of a test is a sentence.
    quoted
        .filter_map(|text| text.split_once("::"))
        .filter(|(_, test)| test.contains('_') && !test.contains([':', '*']))
        .collect()
}

/// Headings as a code host links to them.
fn anchors(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|title| title.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c)).collect::<String>())
        .map(|title| title.replace(' ', "-"))
        .collect()
}

// Files.

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder, in order, without what is built, fetched or hidden.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') || ["target", "node_modules", "dist", "test-results"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[derive(Default)]
struct Faults(String);

impl Faults {
    fn at(&mut self, source: &Source, line: usize, what: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{}:{line}: {what}", source.path);
    }

    fn none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}
