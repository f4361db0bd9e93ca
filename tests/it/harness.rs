//! Starts processes, and stops them with the test.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::client::Client;

/// Far above what anything here takes; what is not there by then does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what}: it did not come"))
}

/// Asks again until the answer is what it must become.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        let mut pause = tokio::time::interval(Duration::from_millis(5));
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            pause.tick().await;
        }
    };
    soon(what, asking).await
}

/// A `nats-server` on a port of its own choice.
pub(crate) struct Nats {
    child: Child,
    pub(crate) url: String,
    /// Where it listens.
    pub(crate) address: String,
    /// Where the others of its cluster find it.
    route: Option<String>,
    _log: Lines<BufReader<ChildStderr>>,
}

impl Nats {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[], &[]).await
    }

    /// One that lets in only who is named in the address.
    pub(crate) async fn guarded(user: &str, password: &str) -> Self {
        let guarded = Self::start_with(&["--user", user, "--pass", password], &[]).await;
        Self { url: format!("nats://{user}:{password}@{}", guarded.address), ..guarded }
    }

    /// Another server of one cluster, which finds the rest by these.
    pub(crate) async fn join(others: &[&Self]) -> Self {
        let routes: Vec<_> = others.iter().filter_map(|other| other.route.as_deref()).collect();
        let (routes, itself) = (routes.join(","), ["--cluster_name", "c", "--cluster", "nats://127.0.0.1:-1"]);
        // Who is connected is not told of the others: replicas know the ways that they were given.
        let known: &[_] = if routes.is_empty() { &[] } else { &["--routes", &routes] };
        Self::start_with(&[&itself[..], &["--no_advertise=true"], known].concat(), &[]).await
    }

    pub(crate) async fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", "-1"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("nats-server is on the PATH");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut listens = async |on: &str| loop {
            let line = log.next_line().await.unwrap().expect("nats-server goes on running");
            if let Some((_, address)) = line.split_once(on) {
                return address.to_owned();
            }
        };
        let address = soon("nats-server", listens("Listening for client connections on ")).await;
        let route = if arguments.contains(&"--cluster") {
            Some(soon("nats-server", listens("Listening for route connections on ")).await)
        } else {
            None
        };
        let route = route.map(|route| format!("nats://{route}"));
        Self { child, url: format!("nats://{address}"), address, route, _log: log }
    }

    /// Kills it.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id().unwrap(), name);
    }
}

fn signal(pid: u32, name: &str) {
    let told = std::process::Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(told.success());
}

/// A running `permcast serve`.
pub(crate) struct Replica {
    child: Child,
    pub(crate) base: String,
    _output: Lines<BufReader<ChildStdout>>,
}

impl Replica {
    pub(crate) async fn start(id: &str, database: &Path, nats: Option<&str>, settings: &[(&str, &str)]) -> Self {
        Self::start_writing(id, database, nats, settings, Stdio::inherit()).await
    }

    /// The same, with its log elsewhere than among what tests say.
    pub(crate) async fn start_writing(
        id: &str,
        database: &Path,
        nats: Option<&str>,
        settings: &[(&str, &str)],
        log: Stdio,
    ) -> Self {
        // Where a limit on the size of files stands for a full disk, writing is to fail and not to kill.
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' XFSZ; exec \"$0\" serve", env!("CARGO_BIN_EXE_permcast")])
            .env("PERMCAST_LISTEN", "127.0.0.1:0")
            .env("PERMCAST_DATABASE_URL", format!("sqlite://{}", database.display()))
            .env("PERMCAST_ISSUER", ISSUER)
            .env("PERMCAST_REPLICA_ID", id)
            .env("PERMCAST_DRAIN_DELAY", "0s")
            .env("PERMCAST_DRAIN_SPREAD", "10ms")
            .env("PERMCAST_WORKERS", "2")
            .env("PERMCAST_LOG", "warn")
            .env("PERMCAST_BOOTSTRAP_USER", OPERATOR)
            .env("PERMCAST_BOOTSTRAP_PASSWORD", PASSWORD)
            .current_dir(database.parent().unwrap())
            .envs(nats.map(|url| ("PERMCAST_NATS_URL", url)))
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let started = async {
            loop {
                let line = output.next_line().await.unwrap().expect("permcast goes on running");
                if let Some(at) = line.find("http://").or_else(|| line.find("https://")) {
                    return line[at..].trim().to_owned();
                }
            }
        };
        let base = soon("a replica", started).await;
        Self { child, base, _output: output }
    }

    /// Tells it to stop, as an orchestrator does.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Its exit code.
    pub(crate) async fn exited(&mut self) -> Option<i32> {
        soon("the end of a replica", self.child.wait()).await.unwrap().code()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.base)
    }
}

/// What the issuer's claim says; nothing is ever asked of it.
pub(crate) const ISSUER: &str = "http://permcast.test";
/// The first operator.
pub(crate) const OPERATOR: &str = "root";
/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Replicas `a` and `b`, their database and their broker.
pub(crate) struct Cluster {
    pub(crate) a: Replica,
    pub(crate) b: Replica,
    pub(crate) nats: Option<Nats>,
    pub(crate) directory: TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let nats = Some(Nats::start().await);
        Self::start_as(nats, &[]).await
    }

    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        let nats = Some(Nats::start().await);
        Self::start_as(nats, settings).await
    }

    pub(crate) async fn without_broker() -> Self {
        Self::start_as(None, &[]).await
    }

    async fn start_as(nats: Option<Nats>, settings: &[(&str, &str)]) -> Self {
        let url = nats.as_ref().map(|nats| nats.url.clone());
        let cluster = Self::start_by([url.as_deref(), url.as_deref()], settings).await;
        Self { nats, ..cluster }
    }

    /// Each replica goes to the broker by its own way.
    pub(crate) async fn start_by([a, b]: [Option<&str>; 2], settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("permcast.db");
        let a = Replica::start("a", &database, a, settings).await;
        let b = Replica::start("b", &database, b, settings).await;
        Self { a, b, nats: None, directory }
    }

    /// The database's file.
    pub(crate) fn database(&self) -> std::path::PathBuf {
        self.directory.path().join("permcast.db")
    }

    /// Another replica beside the two.
    pub(crate) async fn another(&self, id: &str) -> Replica {
        Replica::start(id, &self.database(), self.nats.as_ref().map(|nats| nats.url.as_str()), &[]).await
    }

    /// What an operator does beside the database; gives the exit code and what was said.
    pub(crate) fn operate(&self, arguments: &[&str]) -> (i32, String) {
        operate(&self.database(), arguments)
    }

    /// A backup made by an operator.
    pub(crate) fn backup(&self, name: &str) -> std::path::PathBuf {
        let path = self.directory.path().join(name);
        let (code, said) = self.operate(&["backup", path.to_str().unwrap()]);
        assert_eq!(code, 0, "{said}");
        path
    }

    /// What somebody does with a SQL shell: the stock program, with its default settings.
    pub(crate) fn sql(&self, statement: &str) -> String {
        self.shell(&[statement])
    }

    /// The same with the shell's own commands.
    pub(crate) fn shell(&self, commands: &[&str]) -> String {
        let output = std::process::Command::new("sqlite3")
            .arg("-cmd")
            .arg(".timeout 5000")
            .arg(self.database())
            .args(commands)
            .output()
            .expect("sqlite3 is on the PATH");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Runs one of the commands for operators.
pub(crate) fn operate(database: &Path, arguments: &[&str]) -> (i32, String) {
    let output = operation(database, arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// The same, not run yet.
pub(crate) fn operation(database: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_permcast"));
    command
        .args(arguments)
        .env("PERMCAST_DATABASE_URL", format!("sqlite://{}", database.display()))
        .env("PERMCAST_LISTEN", "127.0.0.1:0")
        .current_dir(database.parent().unwrap())
        .stdin(Stdio::null());
    command
}
