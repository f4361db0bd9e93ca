//! Do the simulator and the properties bite? Puts deliberate bugs into a copy of the pure rooms, and sees each caught.
//!
//! All bugs are in one build, each behind a switch that is read at run time, so that all of them cost one compilation. The simulator plays what it plays in every run; what it does not model (sockets, wakers, the tables of the
//! hub) the unit tests and properties of the rooms have to find.

#![allow(clippy::unwrap_used)]

mod bugs;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use bugs::{BUGS, Bug};

const SWITCH: &str = "PERMCAST_MUTANT";
/// How many schedules the simulator plays for each bug: a fifth of what it plays in every run.
const SCHEDULES: &str = "2000";
/// The unit tests that may catch what the simulator does not.
const ROOMS: &[&str] = &["domain::", "feed::state::", "hub::", "socket::state::"];

/// Read once: 0 is no bug.
const SWITCHED: &str = "
#[doc(hidden)]
pub fn mutant() -> usize {
    static SWITCH: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *SWITCH.get_or_init(|| std::env::var(\"PERMCAST_MUTANT\").map_or(0, |text| text.parse().unwrap()))
}
";

/// Writes where that changes something, so that an unchanged copy is not built again.
fn put(path: &Path, text: &str) {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// The text with every bug of its file in it, switched off.
fn with_bugs(file: &str, text: String) -> String {
    let ours = BUGS.iter().enumerate().filter(|(_, bug)| bug.file == file);
    ours.fold(text, |text, (number, Bug { what, place, wrong, .. })| {
        let (before, rest) = place.split_once("<<").expect("a place has an opening mark");
        let (right, after) = rest.split_once(">>").expect("a place has a closing mark");
        let place = format!("{before}{right}{after}");
        assert_eq!(text.matches(&place).count(), 1, "{what}: {file} does not hold this once: {place}");
        let number = number + 1;
        let switched = format!("(if crate::mutant() == {number} {{ {wrong} }} else {{ {right} }})");
        text.replace(&place, &format!("{before}{switched}{after}"))
    })
}

fn copy(from: &Path, to: &Path, file: &str) {
    let is_source = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    for entry in fs::read_dir(from.join(file)).unwrap() {
        let name = Path::new(file).join(entry.unwrap().file_name());
        let (name, path) = (name.to_str().unwrap(), from.join(&name));
        if path.is_dir() {
            copy(from, to, name);
        } else if is_source(&path) {
            let mut text = with_bugs(name, fs::read_to_string(&path).unwrap());
            if name == "lib.rs" {
                text.push_str(SWITCHED);
            }
            put(&to.join(name), &text);
        } else {
            let target = to.join(name);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Takes away what the original no longer has.
fn weed(copy: &Path, original: &Path) {
    for entry in fs::read_dir(copy).unwrap() {
        let name = entry.unwrap().file_name();
        let (here, there) = (copy.join(&name), original.join(&name));
        match (here.is_dir(), there.exists()) {
            (true, true) => weed(&here, &there),
            (true, false) => fs::remove_dir_all(here).unwrap(),
            (false, true) => {}
            (false, false) => fs::remove_file(here).unwrap(),
        }
    }
}

/// Cargo knows a package by name and version, not by its folder: with the same version, what is built of the copy would
/// later pass for what is built of the original.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "Cargo.lock"];
const VERSION: &str = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
const OWN_VERSION: &str = concat!("version = \"", env!("CARGO_PKG_VERSION"), "+mutants\"");

fn with_own_version(manifest: &str) -> String {
    let (before, after) = manifest.split_once("name = \"permcast\"").expect("the package has a name");
    let after = after.replacen(VERSION, OWN_VERSION, 1);
    format!("{before}name = \"permcast\"{after}")
}

/// A copy of the project beside what was built, its other folders linked.
fn plant() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let garden = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    fs::create_dir_all(&garden).unwrap();
    copy(&root.join("src"), &garden.join("src"), "");
    weed(&garden.join("src"), &root.join("src"));
    for entry in fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name();
        let link = garden.join(&name);
        if MANIFESTS.iter().any(|manifest| name == *manifest) {
            if link.is_symlink() {
                fs::remove_file(&link).unwrap();
            }
            put(&link, &with_own_version(&fs::read_to_string(root.join(&name)).unwrap()));
        } else if name != "src" && name != "target" && name != ".git" && !link.is_symlink() {
            symlink(root.join(&name), link).unwrap();
        }
    }
    garden
}

/// Builds simulator and unit tests; answers the two programs.
fn build(garden: &Path) -> [PathBuf; 2] {
    let target = garden.parent().unwrap().parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["test", "--locked", "--no-run", "--lib", "--test", "sim", "--target-dir"])
        .arg(target)
        .current_dir(garden)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    ["src/lib.rs", "tests/sim/main.rs"].map(|source| {
        let line = said.lines().find(|line| line.contains("Executable") && line.contains(source));
        let path = line.and_then(|line| line.split_once('(')).map(|(_, rest)| rest.trim_end_matches(')').to_owned());
        garden.join(path.unwrap_or_else(|| panic!("no program of {source} in:\n{said}")))
    })
}

/// Whether the program's tests of these names pass with this bug in them.
fn passes(program: &Path, garden: &Path, number: usize, names: &[&str]) -> bool {
    let run = Command::new(program)
        .args(names)
        .env(SWITCH, number.to_string())
        .env("PERMCAST_SIM_SCHEDULES", SCHEDULES)
        .env("RUST_BACKTRACE", "0")
        // What a bug breaks is no case that once broke the program.
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .current_dir(garden)
        .output();
    run.unwrap().status.success()
}

#[test]
fn every_bug_in_a_pure_room_is_caught() {
    let garden = plant();
    let [rooms, simulator] = build(&garden);
    let simulated = |number| passes(&simulator, &garden, number, &["no_schedule", "seeds_that"]);
    let tested = |number| passes(&rooms, &garden, number, ROOMS);
    assert!(simulated(0) && tested(0), "without a bug all must pass");
    let mut missed = Vec::new();
    for (index, bug) in BUGS.iter().enumerate() {
        let number = index + 1;
        if !simulated(number) {
            println!("simulator:  {}", bug.what);
        } else if !tested(number) {
            println!("unit tests: {}", bug.what);
        } else {
            missed.push(bug.what);
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}
