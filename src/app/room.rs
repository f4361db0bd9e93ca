//! How many connections there is room for: as the settings say, and as the system lets.

use crate::config::Config;
use crate::domain::pace::Rate;
use crate::{hub, runtime};

/// Files that are not connections of push: the database's, the broker's, requests.
const OTHER_FILES: usize = 512;
/// Connections that one core lets in a second. Each costs it a tenth of a millisecond with its signature, so a fifth of its
/// time is left for decisions while a herd comes back.
const HANDSHAKES_PER_CORE: usize = 8_000;

/// The limits of this process.
pub(super) fn limits(config: &Config) -> hub::Limits {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let handshakes = config.handshakes_per_second.map_or(HANDSHAKES_PER_CORE * cores, |number| number as usize);
    hub::Limits {
        total: connections(config.connections_max, runtime::open_files_max()),
        per_address: config.connections_per_address,
        per_tenant: config.connections_per_tenant,
        per_user: config.connections_per_user,
        handshakes: Rate::per_second(u32::try_from(handshakes).unwrap_or(u32::MAX)),
    }
}

/// As many as are wanted, or as there are files for. Without that the process would run out of them in the middle of things.
fn connections(wanted: usize, files: usize) -> usize {
    // Of a small limit not all is set apart.
    let room = files - OTHER_FILES.min(files / 2);
    if wanted > room {
        tracing::warn!(
            "connections_max is {wanted}, but this process may open {files} files only: {room} connections are let in; \
             raise the limit (ulimit -n, LimitNOFILE= of systemd), or lower connections_max"
        );
    }
    wanted.min(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_connections_than_files() {
        assert_eq!(connections(100, 20_000), 100);
        assert_eq!(connections(100_000, 20_000), 19_488);
        assert_eq!(connections(100_000, 256), 128);
        assert_eq!(connections(1, 1), 1);
    }
}
