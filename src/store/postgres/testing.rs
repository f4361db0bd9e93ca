//! A PostgreSQL server for tests: one for all that run at the same time, in whatever process, and gone soon after them.
//!
//! Who needs it holds a shared lock on a file as long as he lives; whoever finds no server starts one. A keeper beside it
//! stops it and takes its files away once nobody holds the lock any more, also where tests were killed. `initdb` and
//! `pg_ctl` are looked for on the PATH and where Debian puts them; PERMCAST_TEST_POSTGRES_BIN names another place.
//!
//! Used by the unit tests and, by its path, by those of the whole program. It knows nothing of permcast.

use std::fs::{File, OpenOptions, create_dir_all, read_to_string, write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A server that is there as long as this process.
pub(crate) struct Server {
    pub(crate) port: u16,
    folder: PathBuf,
    _used: File,
}

/// A database of one test's own. Gone with it.
pub(crate) struct Database {
    name: String,
    url: String,
}

impl Database {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        server().psql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name()));
    }
}

/// Makes an empty database.
pub(crate) fn database() -> Database {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    server().psql("postgres", &format!("CREATE DATABASE {name}"));
    let url = format!("postgres://postgres@127.0.0.1:{}/{name}", server().port);
    Database { name, url }
}

/// The server, started if it is not there.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("permcast-postgres-{}", binaries().display()).replace('/', "-"));
        let folder = std::env::temp_dir().join(folder.file_name().unwrap());
        create_dir_all(&folder).unwrap();
        let used = locked(&folder, "used", File::lock_shared);
        let _starting = locked(&folder, "starting", File::lock);
        let port_file = folder.join("port");
        let answering = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let running = read_to_string(&port_file).ok().and_then(|text| text.parse().ok()).filter(answering);
        let port = running.unwrap_or_else(|| {
            let port = start(&folder);
            write(&port_file, port.to_string()).unwrap();
            port
        });
        Server { port, folder, _used: used }
    })
}

impl Server {
    /// Runs SQL in the stock shell, with its defaults; answers what it prints. Fails the test where it fails.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        let url = format!("postgres://postgres@127.0.0.1:{}/{database}", self.port);
        let output = Command::new(binaries().join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", &url, "-c", sql])
            .current_dir(&self.folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn locked(folder: &Path, name: &str, lock: fn(&File) -> std::io::Result<()>) -> File {
    let file = OpenOptions::new().create(true).append(true).open(folder.join(name)).unwrap();
    lock(&file).unwrap();
    file
}

/// Where PostgreSQL's programs are.
pub(crate) fn binaries() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(named) = std::env::var_os("PERMCAST_TEST_POSTGRES_BIN") {
            return named.into();
        }
        let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
        folders.sort();
        folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
        let whole = |folder: &PathBuf| ["initdb", "pg_ctl", "psql"].iter().all(|program| folder.join(program).exists());
        let found = folders.into_iter().rev().find(whole);
        found.expect("PostgreSQL's initdb is needed: install `postgresql`, or set PERMCAST_TEST_POSTGRES_BIN")
    })
}

/// Runs a script of the shell; PostgreSQL refuses to run as root, so then it is run as the user `postgres`.
fn shell(folder: &Path, script: &str, port: u16) -> Command {
    let mut command = Command::new("sh");
    let programs = format!(
        r#"as_owner() {{ if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi; }}
           bin={}; folder={}; port={port}; data=$folder/data; {script}"#,
        binaries().display(),
        folder.display()
    );
    command.arg("-c").arg(programs).current_dir(folder).stdin(Stdio::null());
    command
}

#[expect(clippy::zombie_processes, reason = "the keeper outlives whoever starts it")]
fn start(folder: &Path) -> u16 {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let started = shell(
        folder,
        r#"set -e; rm -rf "$data" port; mkdir "$data"; chmod 755 .
           if [ "$(id -u)" = 0 ]; then chown postgres "$data"; fi
           as_owner "$bin/initdb" -N -D "$data" -A trust -U postgres -E UTF8 --locale=C >/dev/null
           printf '%s\n' "port = $port" "listen_addresses = '127.0.0.1'" "unix_socket_directories = ''" \
               "max_connections = 400" "max_wal_senders = 0" "wal_level = minimal" "logging_collector = off" \
               >>"$data/postgresql.conf"
           as_owner "$bin/pg_ctl" -D "$data" -l "$data/log" -w start >/dev/null"#,
        port,
    )
    .stdout(Stdio::null())
    .output()
    .unwrap();
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    // Twice nobody, some seconds apart: between two tests there may be nobody for a moment.
    let keeper = r#"while :; do
               flock -x used true; sleep 3
               flock -xn used sh -c ":" && break
           done
           exec 9>>used; flock -x 9
           as_owner "$bin/pg_ctl" -D "$data" -m immediate -w stop >/dev/null; rm -rf "$data" port"#;
    let mut keeper = shell(folder, keeper, port);
    keeper.stdout(Stdio::null()).stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut keeper, 0).spawn().unwrap();
    port
}
