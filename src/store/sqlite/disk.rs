//! How long the disk takes to make something last: measured on a file of its own beside the database, gone right after.

use std::fs::{OpenOptions, remove_file};
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::domain::Clock;

/// What SQLite writes for a small commit, at the least.
const PAGE: [u8; 4096] = [0; 4096];
/// More writes tell nothing more.
const WRITES: usize = 16;

/// The best of a few small writes, begun within `within`: what the disk can do, not what else it is busy with.
pub(super) fn takes(database: &Path, within: Duration, clock: &dyn Clock) -> io::Result<Duration> {
    let begun = clock.boottime();
    let mut name = database.as_os_str().to_owned();
    name.push(format!("-probe-{}-{}", std::process::id(), begun.0.as_nanos()));
    let path = Path::new(&name);
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let mut write = || {
        let before = clock.boottime();
        file.rewind()?;
        file.write_all(&PAGE)?;
        file.sync_data()?;
        Ok::<_, io::Error>(clock.boottime().since(before))
    };
    let mut best = Ok(Duration::MAX);
    for _ in 0..WRITES {
        best = best.and_then(|best| Ok(best.min(write()?)));
        if best.is_err() || clock.boottime().since(begun) > within {
            break;
        }
    }
    let removed = remove_file(path);
    best.and_then(|best| removed.map(|()| best))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SystemClock;

    #[test]
    fn it_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let takes = takes(&folder.path().join("permcast.db"), Duration::from_millis(5), &SystemClock).unwrap();
        assert!(takes > Duration::ZERO && takes < Duration::from_secs(5), "{takes:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
