//! A PostgreSQL server that a test has for itself, to stop, to follow and to bring down. It dies with the test.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::until;
use crate::postgres::testing::binaries;
use crate::postgres_disk::Disk;

/// How a server is told to end.
#[derive(Clone, Copy)]
pub(crate) enum Stop {
    /// Connections are ended, and all is written.
    Fast,
    /// As in a power cut.
    Immediate,
}

/// One server with its files.
pub(crate) struct Own {
    running: Option<Child>,
    disk: Option<Disk>,
    pub(crate) port: u16,
    folder: TempDir,
}

impl Own {
    /// An empty server with these settings beside its defaults, running.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        let mut own = Self::without_files();
        own.found(&[]);
        own.set(settings);
        own.resume().await;
        own
    }

    /// The same with its tables on a small disk, if there can be one here; its log is elsewhere.
    pub(crate) async fn start_on_disk() -> Option<Self> {
        Self::start_with_disk_over(|data, _| data).await
    }

    /// The same with its log on a small disk; its tables are elsewhere.
    pub(crate) async fn start_with_log_on_disk() -> Option<Self> {
        Self::start_with_disk_over(|_, log| log).await
    }

    async fn start_with_disk_over(which: for<'a> fn(&'a Path, &'a Path) -> &'a Path) -> Option<Self> {
        let mut own = Self::without_files();
        let log = own.folder().join("log");
        Self::owns(&log);
        own.disk = Some(Disk::over(which(&own.data(), &log))?);
        own.found(&["--wal-segsize=1", "--waldir", log.to_str().unwrap()]);
        // No file of the log is kept ready for longer than it has to be.
        own.set(&["min_wal_size = 2MB"]);
        own.resume().await;
        Some(own)
    }

    fn without_files() -> Self {
        let folder = tempfile::tempdir().unwrap();
        open_to_owner(folder.path());
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let own = Self { running: None, disk: None, port, folder };
        Self::owns(&own.data());
        own
    }

    /// Makes the files of a new server.
    fn found(&self, arguments: &[&str]) {
        let usual = ["-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C"];
        self.make("initdb", &[&usual, arguments].concat());
        self.set(&["listen_addresses = '127.0.0.1'", "unix_socket_directories = ''", "max_connections = 60"]);
    }

    /// Makes a folder that is the server's own.
    fn owns(folder: &Path) {
        std::fs::create_dir(folder).unwrap();
        Self::owned(folder, "700");
    }

    /// The small disk.
    pub(crate) fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("it was started on one")
    }

    /// Where a test may put files that the server reads.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Makes a file or folder the server's own.
    pub(crate) fn owned(path: &Path, mode: &str) {
        let owner = if is_root() { "chown postgres \"$1\" && " } else { "" };
        let script = format!("{owner}chmod {mode} \"$1\"");
        assert!(Command::new("sh").args(["-c", &script, "sh"]).arg(path).status().unwrap().success());
    }

    /// Adds settings; they hold from the next start or [`Own::reload`] on.
    pub(crate) fn set(&self, settings: &[&str]) {
        let path = self.data().join("postgresql.conf");
        let path = self.disk.as_ref().map_or(path.clone(), |disk| disk.seen(&path));
        let text = std::fs::read_to_string(&path).unwrap() + "\n" + &settings.join("\n") + "\n";
        std::fs::write(path, text).unwrap();
    }

    /// Says who may connect how.
    pub(crate) fn admit(&self, lines: &str) {
        std::fs::write(self.data().join("pg_hba.conf"), lines).unwrap();
    }

    pub(crate) fn reload(&self) {
        self.psql("postgres", "SELECT pg_reload_conf()");
    }

    /// Runs it again.
    pub(crate) async fn resume(&mut self) {
        let mut command = self.as_owner("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        self.running = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the server answers", async || self.try_psql("postgres", "SELECT 1").ok()).await;
    }

    /// Ends it, and waits for that.
    pub(crate) fn stop(&mut self, how: Stop) {
        let Some(mut running) = self.running.take() else { return };
        let signal = match how {
            Stop::Fast => "-INT",
            Stop::Immediate => "-QUIT",
        };
        assert!(Command::new("kill").args([signal, &running.id().to_string()]).status().unwrap().success());
        running.wait().unwrap();
    }

    /// A server that follows this one, running.
    pub(crate) async fn standby(&self, settings: &[&str]) -> Self {
        let mut standby = Self::without_files();
        let primary = format!("host=127.0.0.1 port={} user=postgres", self.port);
        // What `-R` writes down only a server of its own version is sure to understand.
        standby.make("pg_basebackup", &["-c", "fast", "-d", &primary]);
        std::fs::write(standby.data().join("standby.signal"), "").unwrap();
        standby.set(&[&format!("primary_conninfo = '{primary}'")]);
        standby.set(settings);
        standby.resume().await;
        standby
    }

    /// Lets it take over.
    pub(crate) fn promote(&self) {
        assert_eq!(self.psql("postgres", "SELECT pg_promote()"), "t");
    }

    /// Whether the standbys have all that was written.
    pub(crate) async fn followed(&self) {
        let whole = "SELECT count(*) > 0 AND bool_and(replay_lsn = pg_current_wal_lsn()) FROM pg_stat_replication";
        until("a standby has all", async || (self.psql("postgres", whole) == "t").then_some(())).await;
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs SQL; answers what it prints.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = self.shell(database).args(["-c", sql]).stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// The stock shell, to be given its commands.
    pub(crate) fn shell(&self, database: &str) -> Command {
        let mut command = Command::new(binaries().join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", &self.url(database)]).current_dir("/");
        command
    }

    /// Runs a program to its end, on the folder of the data.
    fn make(&self, program: &str, arguments: &[&str]) {
        let output = self.as_owner(program).args(arguments).arg("-D").arg(self.data()).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// One of PostgreSQL's programs; it refuses to run as root.
    fn as_owner(&self, program: &str) -> Command {
        // With whoever started it, it ends.
        let mut command = self.disk.as_ref().map_or_else(|| Command::new("env"), Disk::entering);
        command.args(["setpriv", "--pdeathsig", "QUIT"]);
        if is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
        }
        command.arg(binaries().join(program)).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
    }
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// So that the server's owner gets in.
fn open_to_owner(folder: &Path) {
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}
