//! The programs under measurement and the processes of clients; what they use of memory and of the processor.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::ask::Ask;
use super::clock::now;
use super::subject::Place;

/// What a program has not said by then it does not say.
const STARTED_WITHIN: Duration = Duration::from_secs(30);
/// What no answer takes.
const ANSWERED_WITHIN: Duration = Duration::from_mins(5);

/// A process that ends with its owner.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Kept, so that who says something is not cut off.
    lines: Option<Lines<BufReader<ChildStdout>>>,
    pub address: SocketAddr,
    /// Where a broker's own clients go.
    pub also: Option<SocketAddr>,
}

impl Process {
    /// `permcast serve`, as it is installed.
    pub async fn permcast(place: &Place, id: &str, nats: Option<&str>, settings: &[(&str, &str)]) -> Self {
        Self::replica(Command::new(env!("CARGO_BIN_EXE_permcast")).arg("serve"), place, id, nats, settings).await
    }

    /// The same as a library in a process of ours, which can be asked when a change was committed.
    pub async fn observed(place: &Place, id: &str) -> Self {
        Self::replica(&mut myself("replica"), place, id, None, &[]).await
    }

    async fn replica(
        command: &mut Command,
        place: &Place,
        id: &str,
        nats: Option<&str>,
        settings: &[(&str, &str)],
    ) -> Self {
        command
            .env("PERMCAST_LISTEN", "127.0.0.1:0")
            .env("PERMCAST_DATABASE_URL", place.database())
            .env("PERMCAST_ISSUER", "http://bench.test")
            .env("PERMCAST_REPLICA_ID", id)
            .env("PERMCAST_LOG", "warn")
            // Hashes are slow on purpose, and not what is measured here.
            .env("PERMCAST_PASSWORD_MEMORY_KIB", super::seed::HASH.0.to_string())
            .env("PERMCAST_PASSWORD_ITERATIONS", super::seed::HASH.1.to_string())
            .env("PERMCAST_DRAIN_DELAY", "0s")
            .env("PERMCAST_BOOTSTRAP_USER", "root")
            .env("PERMCAST_BOOTSTRAP_PASSWORD", super::seed::PASSWORD)
            .envs(nats.map(|url| ("PERMCAST_NATS_URL", url)))
            .envs(settings.iter().copied())
            .current_dir(place.folder.path());
        Self::start(command, |line| line.split_once("http://").map(|(_, address)| address.to_owned())).await
    }

    /// The floor's loop.
    pub async fn bare() -> Self {
        Self::start(&mut myself("bare"), |line| Some(line.to_owned())).await
    }

    async fn start(command: &mut Command, address: impl Fn(&str) -> Option<String>) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = line(&mut lines, address).await.parse().unwrap();
        let stdin = child.stdin.take();
        Self { child, stdin, lines: Some(lines), address, also: None }
    }

    /// The yardstick: a nats-server that listens for WebSockets, too.
    pub async fn nats(folder: &Path) -> Self {
        let file = folder.join("nats.conf");
        std::fs::write(&file, "listen: \"127.0.0.1:-1\"\nwebsocket { listen: \"127.0.0.1:-1\", no_tls: true }\n")
            .unwrap();
        let mut command = Command::new("nats-server");
        let mut child = command
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("nats-server is on the PATH");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let after =
            |mark: &'static str| move |line: &str| line.split_once(mark).map(|(_, address)| address.trim().to_owned());
        // In this order it says them.
        let address = line(&mut lines, after("Listening for websocket clients on ws://")).await.parse().unwrap();
        let also = line(&mut lines, after("Listening for client connections on ")).await.parse().unwrap();
        // Said aloud it would stop when the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, stdin: None, lines: None, address, also: Some(also) }
    }

    /// Says a line to it.
    pub async fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it listens");
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        stdin.flush().await.unwrap();
    }

    /// Says a line to it, and hears one.
    pub async fn hear(&mut self, line: &str) -> String {
        self.say(line).await;
        let lines = self.lines.as_mut().expect("it speaks");
        lines.next_line().await.unwrap().expect("it goes on")
    }

    /// Tells it to end, and waits until it has.
    pub async fn end(&mut self) {
        let told = std::process::Command::new("kill").arg(self.pid().to_string()).status().unwrap();
        assert!(told.success());
        self.child.wait().await.unwrap();
    }

    /// Ends it as a power cut does.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The memory that is its own or its part of what is shared (PSS), in bytes.
    pub fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let kib = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The processor's time that it has used, in nanoseconds; to ten milliseconds.
    pub fn busy(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields = text.rsplit_once(") ").unwrap().1.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        ticks * 10_000_000
    }
}

/// A process of clients.
pub struct Worker {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    pub fn start() -> Self {
        let mut child =
            myself("clients").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { stdin: child.stdin.take().unwrap(), lines, _child: child }
    }

    /// One that has these tokens.
    pub async fn with(tokens: &Path) -> Self {
        let mut worker = Self::start();
        worker.ask::<usize>(&Ask::Tokens(PathBuf::from(tokens))).await;
        worker
    }

    pub async fn ask<T: DeserializeOwned>(&mut self, ask: &(impl Serialize + Sync)) -> T {
        let mut line = serde_json::to_vec(ask).unwrap();
        line.push(b'\n');
        self.stdin.write_all(&line).await.unwrap();
        self.stdin.flush().await.unwrap();
        let answer = tokio::time::timeout(ANSWERED_WITHIN, self.lines.next_line()).await;
        serde_json::from_str(&answer.expect("an answer in time").unwrap().expect("the clients go on")).unwrap()
    }
}

fn myself(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--role", role]);
    command
}

async fn line<R: AsyncRead + Unpin>(
    lines: &mut Lines<BufReader<R>>,
    wanted: impl Fn(&str) -> Option<String>,
) -> String {
    let begun = now();
    let found = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the program goes on");
            if let Some(found) = wanted(&line) {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(STARTED_WITHIN, found).await;
    found.unwrap_or_else(|_| panic!("a program did not start within {} ms", (now() - begun) / 1_000_000))
}
