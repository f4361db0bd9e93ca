//! The processes of a deployment, and what can be done to them.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::database::Database;
use super::ground::Ground;
use super::hosts::{self, BALANCER, DATABASE, Host};
use super::postgres::binaries;

/// Far above what anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// The first operator.
pub(crate) const OPERATOR: &str = "root";

/// A program that can be stopped, killed and started again.
pub(crate) struct Process {
    start: Box<dyn Fn() -> Command + Send + Sync>,
    child: Option<Child>,
}

impl Process {
    fn new(start: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        Self { start: Box::new(start), child: None }
    }

    fn spawn(&mut self) -> &mut Child {
        let mut command = (self.start)();
        self.child.insert(command.stdin(Stdio::null()).kill_on_drop(true).spawn().expect("the program is installed"))
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    pub(crate) fn signal(&self, name: &str) {
        if let Some(pid) = self.pid() {
            let _ = std::process::Command::new("kill").args([name, &pid.to_string()]).status();
        }
    }

    /// Kills it, whatever it is at.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.ok()?.ok();
        self.child = None;
        status
    }

    /// How it ended by itself, if it did.
    pub(crate) fn crashed(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }
}

/// A server of the broker's cluster. It keeps its ports, since the others and the replicas have been told them.
pub(crate) struct Broker {
    pub(crate) process: Process,
    address: String,
}

impl Broker {
    /// All of one cluster, not yet started.
    pub(crate) fn cluster(count: usize, ground: &Ground) -> Vec<Self> {
        let places: Vec<_> = match ground {
            Ground::Loopback => {
                // Held together, so that no port is given twice.
                let ports: Vec<_> = (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
                let ports: Vec<_> = ports.iter().map(|port| port.local_addr().unwrap().port()).collect();
                let (clients, routes) = ports.split_at(count);
                clients.iter().zip(routes).map(|(client, route)| ("127.0.0.1".to_owned(), *client, *route)).collect()
            }
            Ground::Hosts(_) => (0..count).map(|number| (Host::of_broker(number).address(), 4222, 6222)).collect(),
        };
        let all: Vec<_> = places.iter().map(|(address, _, route)| format!("nats://{address}:{route}")).collect();
        let servers = places.iter().enumerate().zip(all.clone()).map(|((number, (address, client, _)), route)| {
            let (bind, client, others) = (address.clone(), client.to_string(), all.join(","));
            let address = format!("{address}:{client}");
            let program = ground.program(Host::of_broker(number), "nats-server");
            let process = Process::new(move || {
                let mut command = program();
                command.args(["-a", &bind, "-p", &client, "--cluster_name", "chaos", "-cluster", &route]);
                // Whoever is connected is not told of the others: the ways to them are given.
                command.args(["-routes", &others, "--no_advertise=true"]).stdout(Stdio::null()).stderr(Stdio::null());
                command
            });
            Self { process, address }
        });
        servers.collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(&mut self) {
        self.process.spawn();
        let listening = async {
            while tokio::net::TcpStream::connect(&self.address).await.is_err() {
                if self.process.crashed().is_some() {
                    self.process.spawn();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listening).await.expect("nats-server listens");
    }
}

/// A replica. Each start gives it another port.
pub(crate) struct Replica {
    pub(crate) process: Process,
    output: Option<Lines<BufReader<ChildStdout>>>,
}

impl Replica {
    pub(crate) fn new(number: usize, database: &str, brokers: &str, logs: PathBuf, ground: &Ground) -> Self {
        let (database, brokers) = (database.to_owned(), brokers.to_owned());
        // Another build of it can be put to the test, too.
        let program = std::env::var("PERMCAST_CHAOS_PROGRAM");
        let host = Host::of_replica(number);
        let program = ground.program(host, program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_permcast")));
        let listen = match ground {
            Ground::Loopback => "127.0.0.1:0".to_owned(),
            Ground::Hosts(_) => format!("{}:8080", host.address()),
        };
        let process = Process::new(move || {
            let log = OpenOptions::new().create(true).append(true).open(logs.join(format!("replica-{number}.log")));
            let mut command = program();
            command
                .arg("serve")
                .env("PERMCAST_LISTEN", &listen)
                .env("PERMCAST_DATABASE_URL", &database)
                .env("PERMCAST_NATS_URL", &brokers)
                .env("PERMCAST_ISSUER", "http://permcast.test")
                .env("PERMCAST_REPLICA_ID", format!("replica-{number}"))
                .env("PERMCAST_DRAIN_DELAY", "200ms")
                .env("PERMCAST_DRAIN_SPREAD", "200ms")
                .env("PERMCAST_WORKERS", "2")
                .env("PERMCAST_LOG", "warn,async_nats=off")
                // Short, so that tokens end and floors are folded, too.
                .env("PERMCAST_ACCESS_TOKEN_TTL", "30s")
                // Tokens of both kinds go about, and each is shown to every replica.
                .env("PERMCAST_TOKEN_PERMISSIONS", if number == 0 { "none" } else { "claims" })
                .env("PERMCAST_BOOTSTRAP_USER", OPERATOR)
                .env("PERMCAST_BOOTSTRAP_PASSWORD", PASSWORD)
                .current_dir(&logs)
                .stdout(Stdio::piped())
                .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
            command
        });
        Self { process, output: None }
    }

    /// Starts it; answers where it listens, or `None` where it ended instead.
    pub(crate) async fn start(&mut self) -> Option<String> {
        let output = self.process.spawn().stdout.take().expect("it is piped");
        let mut output = BufReader::new(output).lines();
        let listening = async {
            while let Ok(Some(line)) = output.next_line().await {
                if let Some(at) = line.find("http://") {
                    return Some(line[at..].trim().to_owned());
                }
            }
            None
        };
        let base = tokio::time::timeout(PATIENCE, listening).await.ok().flatten();
        // Kept, for it must have somebody to write to.
        self.output = Some(output);
        base
    }
}

/// A PostgreSQL server, on a host of its own.
pub(crate) struct Server {
    _process: Process,
}

impl Server {
    /// Starts one with its files in this directory; gives the address of its database.
    pub(crate) async fn start(directory: &Path) -> (Self, String) {
        // It refuses to be root, and has to find its files.
        const INIT: &str = "chmod 711 \"$1\" && install -d -o postgres \"$1/postgres\" && setpriv --reuid=postgres \
            --regid=postgres --init-groups \"$0/initdb\" -N -D \"$1/postgres\" -A trust -U postgres -E UTF8 --locale=C";
        let bin = binaries();
        let made = Command::new("sh").arg("-c").arg(INIT).arg(bin).arg(directory).output().await.expect("a shell");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let access = directory.join("postgres/pg_hba.conf");
        std::fs::write(access, "host all all 0.0.0.0/0 trust\n").expect("initdb has made the directory");
        let (program, data) = (bin.join("postgres"), directory.join("postgres"));
        let mut process = Process::new(move || {
            let mut command = Command::from(hosts::on(DATABASE, "setpriv"));
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(&program).arg("-D").arg(&data);
            command.args(["-c", "unix_socket_directories=", "-c", "listen_addresses=*"]);
            command.args(["-c", "max_connections=200"]).stdout(Stdio::null()).stderr(Stdio::null());
            command
        });
        process.spawn();
        let url = format!("postgres://postgres@{}/postgres", DATABASE.address());
        let answering = async {
            while Database::Server(url.clone()).try_reader().await.is_none() {
                assert!(process.crashed().is_none(), "PostgreSQL goes on running");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answering).await.expect("PostgreSQL answers");
        (Self { _process: process }, url)
    }
}

/// What stands before the replicas, with the configuration that is deployed.
pub(crate) struct Balancer(Process);

impl Balancer {
    pub(crate) async fn start(replicas: &[String], directory: PathBuf) -> Self {
        let upstreams = replicas.iter().filter_map(|base| base.strip_prefix("http://")).collect::<Vec<_>>().join(" ");
        let mut process = Process::new(move || {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/caddy/Caddyfile");
            let mut command = Command::from(hosts::on(BALANCER, "caddy"));
            command.args(["run", "--config", file, "--adapter", "caddyfile"]).env("REPLICAS", &upstreams);
            command.env("XDG_DATA_HOME", &directory).env("XDG_CONFIG_HOME", &directory);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command
        });
        process.spawn();
        let listening = async {
            while tokio::net::TcpStream::connect(format!("{}:8080", BALANCER.address())).await.is_err() {
                assert!(process.crashed().is_none(), "the balancer goes on running");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listening).await.expect("the balancer listens");
        Self(process)
    }

    pub(crate) fn signal(&self, name: &str) {
        self.0.signal(name);
    }
}
