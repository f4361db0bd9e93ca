//! Hosts of their own for the processes: network namespaces, and one switch between them whose links can be spoiled, each
//! direction by itself. The test moves into namespaces first, so that nothing of it is seen from outside and the
//! kernel ends and removes all of it with the test, however that ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::world::{BROKERS, REPLICAS};

/// Set within.
const INSIDE: &str = "PERMCAST_CHAOS_INSIDE";
/// All that clients ask from stand beside the test, on a host of their own.
pub(crate) const CLIENTS: Host = Host(0);
pub(crate) const BALANCER: Host = Host(1);
pub(crate) const DATABASE: Host = Host(2);
/// Those three, the brokers' and the replicas'.
const HOSTS: usize = 3 + BROKERS + REPLICAS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host(usize);

impl Host {
    pub(crate) fn of_broker(number: usize) -> Self {
        Self(3 + number)
    }

    pub(crate) fn of_replica(number: usize) -> Self {
        Self(3 + BROKERS + number)
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..HOSTS).map(Self)
    }

    pub(crate) fn address(self) -> String {
        format!("10.77.0.{}", self.0 + 1)
    }

    fn name(self) -> String {
        format!("host{}", self.0)
    }
}

/// How one direction of a link is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Link {
    pub(crate) delay: Duration,
    /// The probability that a frame is lost.
    pub(crate) loss: f64,
}

impl Link {
    pub(crate) fn of(delay: Duration) -> Self {
        Self { delay, loss: 0.0 }
    }

    pub(crate) fn cut() -> Self {
        Self { delay: Duration::ZERO, loss: 1.0 }
    }
}

/// All hosts, up and connected.
pub(crate) struct Hosts {
    wire: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    /// How a link is while nothing is wrong, but the database's.
    usual: Link,
    _process: Child,
}

impl Hosts {
    /// Runs the test once more where hosts can be made, unless this is there already. `true`: this is there. The settings
    /// are for all that is started there.
    pub(crate) fn enter(test: &str, settings: &[(&str, &str)]) -> bool {
        if std::env::var_os(INSIDE).is_some() {
            return true;
        }
        let namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let unshare = || {
            let mut unshare = Command::new("unshare");
            let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
            unshare.args(if is_root { &[][..] } else { &["--user", "--map-root-user"] }).args(namespaces);
            unshare
        };
        let possible = "mount -t tmpfs none /run && ip netns add probe && ip tuntap add mode tap probe";
        let probed = unshare().args(["sh", "-c", possible]).output().expect("unshare is on the PATH");
        if !probed.status.success() {
            let why = String::from_utf8_lossy(&probed.stderr);
            println!("\n=== NOT TESTED: {test}: there can be no network namespaces here: {why}===\n");
            return false;
        }
        let mut command = unshare();
        command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
        command.envs(settings.iter().copied());
        assert!(command.status().unwrap().success(), "{test}, among hosts");
        false
    }

    /// Makes them. The links have this delay in each direction, those to the database none.
    pub(crate) fn build(seed: u64, delay: Duration) -> Self {
        run(Command::new("mount").args(["-t", "tmpfs", "none", "/run"]));
        let ports: Vec<_> = Host::all().map(|host| format!("port{}", host.0)).collect();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaos/wire.py");
        let mut process = Command::new("python3")
            .arg(script)
            .arg(seed.to_string())
            .args(&ports)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is on the PATH");
        let input = process.stdin.take().expect("it is piped");
        let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
        assert_eq!(line(&mut output), "ready\n");
        for (host, port) in Host::all().zip(&ports) {
            if host != CLIENTS {
                run(Command::new("ip").args(["netns", "add", &host.name()]));
                run(Command::new("ip").args(["link", "set", port, "netns", &host.name()]));
            }
            let mut network = vec![
                "link set lo up".to_owned(),
                format!("link set {port} address 02:00:00:00:00:{:02x} up", host.0),
                format!("address add {}/24 dev {port}", host.address()),
            ];
            // No host forgets where another is while a link is cut.
            network.extend(Host::all().filter(|other| *other != host).map(|other| {
                format!("neigh add {} lladdr 02:00:00:00:00:{:02x} dev {port}", other.address(), other.0)
            }));
            let network = network.join("\n") + "\n";
            let mut ip = on(host, "ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip is on the PATH");
            ip.stdin.take().expect("it is piped").write_all(network.as_bytes()).unwrap();
            assert!(ip.wait().unwrap().success(), "{network}");
        }
        let hosts = Self { wire: Mutex::new((input, output)), usual: Link::of(delay), _process: process };
        for host in Host::all() {
            hosts.mend(host);
        }
        hosts
    }

    /// How a link is while nothing is wrong. The database is near: it is asked several times for each write.
    pub(crate) fn usual(&self, from: Host, to: Host) -> Link {
        if from == DATABASE || to == DATABASE { Link::of(Duration::ZERO) } else { self.usual }
    }

    /// Frames from one to the other have it like this from now on.
    pub(crate) fn set(&self, from: Host, to: Host, link: Link) {
        let mut wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, output) = &mut *wire;
        writeln!(input, "{} {} {} {}", from.0, to.0, link.delay.as_micros(), link.loss).expect("the wire is there");
        assert_eq!(line(output), "done\n");
    }

    /// All that goes to a host, and comes from it, goes like this.
    pub(crate) fn around(&self, host: Host, link: Link) {
        for other in Host::all().filter(|other| *other != host) {
            self.set(host, other, link);
            self.set(other, host, link);
        }
    }

    pub(crate) fn mend(&self, host: Host) {
        for other in Host::all().filter(|other| *other != host) {
            self.set(host, other, self.usual(host, other));
            self.set(other, host, self.usual(other, host));
        }
    }
}

/// All that runs on a host gets this signal.
pub(crate) fn signal(host: Host, name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", &host.name()]).output().expect("ip is on the PATH").stdout;
    let pids = String::from_utf8_lossy(&pids);
    let _ = Command::new("kill").arg(name).args(pids.split_whitespace()).status();
}

/// A program, on a host.
pub(crate) fn on(host: Host, program: &str) -> Command {
    if host == CLIENTS {
        return Command::new(program);
    }
    let mut command = Command::new("ip");
    // It becomes the program, so that its process can be signalled.
    command.args(["netns", "exec", &host.name(), program]);
    command
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn line(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("the wire is there");
    line
}
