//! A deployment: three replicas on one database, a cluster of three brokers, and the clock that all is noted by.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::database::{self, Database};
use super::ground::Ground;
use super::guests::GUESTS;
use super::history::{Glance, History, Moment, Seq};
use super::hosts::BALANCER;
use super::process::{Balancer, Broker, PATIENCE, Replica, Server};
use super::proxy::Proxy;
use super::rng::Rng;

pub(crate) const REPLICAS: usize = 3;
pub(crate) const BROKERS: usize = 3;
pub(crate) const USERS: u8 = 16;
pub(crate) const ROLES: u8 = 6;
/// Each is used until an operation of his has no answer.
const ACTORS: u16 = 1000;
/// How often the log's end is looked at.
const GLANCE_EVERY: Duration = Duration::from_millis(2);
/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

pub(crate) struct World {
    begun: Instant,
    /// How many times longer everybody waits between what he does; for many worlds on one machine.
    pace: u32,
    history: Mutex<History>,
    pub(crate) http: reqwest::Client,
    /// Where each replica listens at the moment.
    bases: Mutex<Vec<String>>,
    /// Whoever does something to one has it locked.
    pub(crate) replicas: Vec<tokio::sync::Mutex<Replica>>,
    pub(crate) brokers: Vec<tokio::sync::Mutex<Broker>>,
    /// Before the replicas, where they stand on hosts of their own.
    pub(crate) balancer: tokio::sync::Mutex<Option<Balancer>>,
    pub(crate) ground: Ground,
    /// Each replica's ways to all brokers; where they stand on hosts of their own, the links are what is spoiled.
    pub(crate) ways: Vec<tokio::sync::Mutex<Vec<Proxy>>>,
    _server: Option<Server>,
    pub(crate) database: Database,
    pub(crate) epoch: String,
    actors: Mutex<u16>,
    directory: TempDir,
}

/// No answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nobody was there to be asked.
    Unsent,
    /// Whether it was heard is not known.
    Unheard,
}

/// What a replica answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What `Permcast-Version` says.
    pub(crate) version: Option<String>,
    pub(crate) body: Value,
}

impl World {
    pub(crate) async fn start(pace: u32, ground: Ground) -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (server, database) = match &ground {
            Ground::Loopback => (None, Database::in_directory(directory.path())),
            Ground::Hosts(_) => {
                let (server, url) = Server::start(directory.path()).await;
                (Some(server), Database::Server(url))
            }
        };
        if let Some(place) = database.directory() {
            std::fs::create_dir(place).unwrap();
        }
        let mut brokers = Broker::cluster(BROKERS, &ground);
        let mut urls = Vec::new();
        for broker in &mut brokers {
            broker.start().await;
            urls.push(broker.url());
        }
        let (mut replicas, mut bases, mut ways) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..REPLICAS {
            urls.rotate_left(1);
            let mut proxies = Vec::new();
            let all = if ground.hosts().is_some() {
                urls.join(",")
            } else {
                for url in &urls {
                    proxies.push(Proxy::to_nats(url).await);
                }
                proxies.iter().map(Proxy::url).collect::<Vec<_>>().join(",")
            };
            ways.push(tokio::sync::Mutex::new(proxies));
            let mut replica = Replica::new(number, &database.url(), &all, directory.path().to_owned(), &ground);
            bases.push(replica.start().await.expect("a replica starts"));
            replicas.push(tokio::sync::Mutex::new(replica));
        }
        let balancer = match &ground {
            Ground::Loopback => None,
            Ground::Hosts(_) => Some(Balancer::start(&bases, directory.path().to_owned()).await),
        };
        let founding = database::founding(USERS, ROLES, ACTORS, u16::try_from(REPLICAS).unwrap(), GUESTS);
        let (_, origin) = database.write(&founding).await.expect("the company is founded");
        let mut reader = database.reader().await;
        let epoch = database::epoch(&mut reader).await;
        let before = database::state(&mut reader, USERS, ROLES).await;
        let http = reqwest::Client::builder().timeout(ANSWER_WITHIN).no_proxy().build().unwrap();
        Arc::new(Self {
            begun: Instant::now(),
            pace,
            history: Mutex::new(History { origin, before, ..History::default() }),
            http,
            bases: Mutex::new(bases),
            replicas,
            brokers: brokers.into_iter().map(tokio::sync::Mutex::new).collect(),
            balancer: tokio::sync::Mutex::new(balancer),
            ground,
            ways,
            _server: server,
            database,
            epoch,
            actors: Mutex::new(0),
            directory,
        })
    }

    pub(crate) fn now(&self) -> Moment {
        self.begun.elapsed()
    }

    /// Waits as long as the dice say, at the most so many milliseconds at the usual pace.
    pub(crate) async fn pause(&self, rng: &mut Rng, longest: u64) {
        tokio::time::sleep(Duration::from_millis(rng.below(longest)) * self.pace).await;
    }

    pub(crate) fn note(&self, note: impl FnOnce(&mut History)) {
        note(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn base(&self, replica: usize) -> String {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner)[replica].clone()
    }

    /// Where a client goes who wants this replica; past the balancer he gets the one that it chooses.
    pub(crate) fn entrance(&self, replica: usize, rng: &mut Rng) -> String {
        let balanced = self.ground.hosts().is_some() && rng.once_in(2);
        if balanced { format!("http://{}:8080", BALANCER.address()) } else { self.base(replica) }
    }

    pub(crate) fn moved(&self, replica: usize, base: String) {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner)[replica] = base;
    }

    /// One who has done nothing yet.
    pub(crate) fn next_actor(&self) -> String {
        let mut next = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(*next < ACTORS, "more operations were left without an answer than there are actors");
        *next += 1;
        format!("w{}", *next - 1)
    }

    /// The number in a version of this run's log. There is no other log.
    pub(crate) fn seq(&self, version: &str) -> Option<Seq> {
        let (epoch, seq) = version.split_once('.')?;
        if epoch != self.epoch {
            let what = format!("the version {version} is of another epoch than {}", self.epoch);
            self.note(|history| history.unsettled.push(what));
        }
        seq.parse().ok()
    }

    /// Asks a replica.
    pub(crate) async fn ask(
        &self,
        replica: usize,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, Lost> {
        let mut request = self.http.request(method, format!("{}{path}", self.base(replica)));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, Lost> {
        let lost = |error: reqwest::Error| if error.is_connect() { Lost::Unsent } else { Lost::Unheard };
        let response = request.send().await.map_err(lost)?;
        let status = response.status().as_u16();
        let version = response.headers().get("permcast-version").and_then(|value| value.to_str().ok());
        let version = version.map(str::to_owned);
        let bytes = response.bytes().await.map_err(|_| Lost::Unheard)?;
        Ok(Answer { status, version, body: serde_json::from_slice(&bytes).unwrap_or_default() })
    }

    /// Looks at the log's end until it is told to stop.
    pub(crate) async fn watch_log(self: Arc<Self>, stop: CancellationToken) {
        let mut reader = self.database.reader().await;
        while !stop.is_cancelled() {
            let begun = self.now();
            if let Some(head) = database::head(&mut reader).await {
                let glance = Glance { begun, ended: self.now(), head };
                self.note(|history| match history.glances.as_mut_slice() {
                    // The first and the last that found the same say all.
                    [.., first, last] if first.head == head && last.head == head => *last = glance,
                    _ => history.glances.push(glance),
                });
            }
            tokio::time::sleep(GLANCE_EVERY * self.pace.min(5)).await;
        }
    }

    /// Looks at the replicas' memory, and whether they live, until it is told to stop.
    pub(crate) async fn watch_processes(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            for (number, replica) in self.replicas.iter().enumerate() {
                let Ok(mut replica) = replica.try_lock() else { continue };
                if let Some(status) = replica.process.crashed() {
                    self.note(|history| history.unsettled.push(format!("replica {number} ended by itself: {status}")));
                    replica.process.kill().await;
                }
                let bytes = replica.process.pid().and_then(resident).unwrap_or(0);
                self.note(|history| history.memory = history.memory.max(bytes));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// After the faults: every replica ready and at the log's end, and the broker with them.
    pub(crate) async fn come_to_rest(&self) {
        let mut reader = self.database.reader().await;
        for replica in 0..REPLICAS {
            let mut last = Value::Null;
            let rested = async {
                loop {
                    let head = database::head(&mut reader).await;
                    let answer = self.ask(replica, Method::GET, "/readyz", None, None).await;
                    if let Ok(answer) = answer {
                        last = answer.body;
                        let pv = last["pv"].as_str().and_then(|version| self.seq(version));
                        let all_up = ["broker", "database", "feed"].iter().all(|part| last[part] == "up");
                        if answer.status == 200 && all_up && pv >= head {
                            return;
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            if tokio::time::timeout(PATIENCE, rested).await.is_err() {
                let what = format!("replica {replica} did not come to rest after the faults: {last}");
                self.note(|history| history.unsettled.push(what));
            }
        }
    }

    /// Ends everything; what is left is what happened, and where the replicas' logs are.
    pub(crate) async fn end(self: Arc<Self>) -> (History, TempDir) {
        let Ok(world) = Arc::try_unwrap(self) else { panic!("all who take part have ended") };
        let mut reader = world.database.reader().await;
        let mut history = world.history.into_inner().unwrap_or_else(PoisonError::into_inner);
        history.log = database::log(&mut reader).await;
        history.after = database::state(&mut reader, USERS, ROLES).await;
        (history, world.directory)
    }
}

/// The most memory that a process has used.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
