//! A TCP proxy between two real parts, and all that can go wrong on the way between them.
//!
//! Of NATS it knows where a message begins and ends, so that single ones can be lost, doubled, held back or damaged, and
//! nothing is ever torn in the middle by a fault that only loses.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::frames::{Cutter, Frame};

/// Frames between the reader and the writer of one direction; a full one holds the sender up, as a full socket does.
const QUEUE_FRAMES: usize = 4096;

/// In how many steps a throttled direction passes on what it may in a second.
const STEPS_A_SECOND: u32 = 50;

/// A direction, as seen by who connects to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    Drop,
    Twice,
    /// Kept until [`Proxy::release`].
    Hold,
    /// Passed with a bit of its payload turned.
    Damage,
}

type Rule = Box<dyn FnMut(&str) -> Fate + Send>;

/// What one direction does to everything.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    swallow: bool,
    delay: Duration,
    /// Bytes a second.
    pace: Option<u32>,
}

/// Where bytes go, each with when they may.
type Outlet = mpsc::Sender<(Instant, Vec<u8>)>;

#[derive(Default)]
struct Lane {
    weather: Mutex<Weather>,
    rule: Mutex<Option<Rule>>,
    held: Mutex<Vec<Vec<u8>>>,
    /// To the connection made last.
    outlet: Mutex<Option<Outlet>>,
    /// Messages that a rule or the weather did something to.
    struck: AtomicU64,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    nats: bool,
    refusing: AtomicBool,
    /// Counts up: every connection made before is closed.
    cut: watch::Sender<u64>,
    /// Counts up: of every connection made before, the far side is closed and the near side hears nothing any more.
    halved: watch::Sender<u64>,
    up: Lane,
    down: Lane,
}

/// A way between two parts. Ends with the test.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A way to a NATS server, given by its URL.
    pub(crate) async fn to_nats(url: &str) -> Self {
        Self::start(nats_address(url), true).await
    }

    /// A way to anything; its messages cannot be told apart.
    #[allow(dead_code, reason = "for who puts it before a replica")]
    pub(crate) async fn to(upstream: SocketAddr) -> Self {
        Self::start(upstream, false).await
    }

    async fn start(upstream: SocketAddr, nats: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            nats,
            refusing: AtomicBool::new(false),
            cut: watch::channel(0).0,
            halved: watch::channel(0).0,
            up: Lane::default(),
            down: Lane::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// Where a NATS client finds it.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// From now on leads to another server.
    pub(crate) fn lead_to(&self, url: &str) {
        *self.shared.upstream.lock().unwrap() = nats_address(url);
    }

    /// Closes every connection; new ones are welcome.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_modify(|count| *count += 1);
    }

    /// Closes new connections at once, or no longer.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.shared.refusing.store(refuse, Ordering::Release);
    }

    /// Leaves every connection open on the near side alone, as when the far host died without a word.
    pub(crate) fn half_open(&self) {
        self.shared.halved.send_modify(|count| *count += 1);
    }

    /// Takes everything and passes nothing on, in one direction; or passes on again.
    pub(crate) fn swallow(&self, way: Way, swallow: bool) {
        self.lane(way).weather.lock().unwrap().swallow = swallow;
    }

    /// Passes everything on so much later, in its order.
    pub(crate) fn delay(&self, way: Way, delay: Duration) {
        self.lane(way).weather.lock().unwrap().delay = delay;
    }

    /// Passes on at most so many bytes a second.
    pub(crate) fn throttle(&self, way: Way, bytes: Option<u32>) {
        self.lane(way).weather.lock().unwrap().pace = bytes;
    }

    /// Asks `rule` about every message, by its subject, in place of the former rule.
    pub(crate) fn rule(&self, way: Way, rule: impl FnMut(&str) -> Fate + Send + 'static) {
        *self.lane(way).rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// Every message passes again. What is held stays so.
    pub(crate) fn fair(&self, way: Way) {
        *self.lane(way).rule.lock().unwrap() = None;
    }

    /// How many messages are held back.
    pub(crate) fn held(&self, way: Way) -> usize {
        self.lane(way).held.lock().unwrap().len()
    }

    /// To how many messages something was done.
    pub(crate) fn struck(&self, way: Way) -> u64 {
        self.lane(way).struck.load(Ordering::Acquire)
    }

    /// Lets go what is held, in the order that `order` puts it in.
    pub(crate) async fn release(&self, way: Way, order: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let lane = self.lane(way);
        let mut held = std::mem::take(&mut *lane.held.lock().unwrap());
        order(&mut held);
        let outlet = lane.outlet.lock().unwrap().clone().expect("somebody was connected");
        for frame in held {
            outlet.send((Instant::now(), frame)).await.expect("and still is");
        }
    }

    fn lane(&self, way: Way) -> &Lane {
        self.shared.lane(way)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Shared {
    fn lane(&self, way: Way) -> &Lane {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}

fn nats_address(url: &str) -> SocketAddr {
    url.rsplit_once(['/', '@']).map_or(url, |(_, address)| address).parse().unwrap()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { return };
        if !shared.refusing.load(Ordering::Acquire) {
            tokio::spawn(carry(near, Arc::clone(&shared)));
        }
    }
}

/// Carries one connection until a side ends it or it is cut.
async fn carry(near: TcpStream, shared: Arc<Shared>) {
    let (mut cut, mut halved) = (shared.cut.subscribe(), shared.halved.subscribe());
    let upstream = *shared.upstream.lock().unwrap();
    let Ok(far) = TcpStream::connect(upstream).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
    let halve = tokio::select! {
        () = lead(&mut near_in, &mut far_out, &shared, Way::Up) => false,
        () = lead(&mut far_in, &mut near_out, &shared, Way::Down) => false,
        _ = cut.changed() => false,
        _ = halved.changed() => true,
    };
    if halve {
        drop((far_in, far_out));
        let mut nothing = [0; 4096];
        tokio::select! {
            () = async { while near_in.read(&mut nothing).await.is_ok_and(|read| read > 0) {} } => {}
            _ = cut.changed() => {}
        }
    }
}

/// Leads one direction of one connection, until its end.
async fn lead(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, shared: &Shared, way: Way) {
    let lane = shared.lane(way);
    let (outlet, inlet) = mpsc::channel(QUEUE_FRAMES);
    *lane.outlet.lock().unwrap() = Some(outlet.clone());
    tokio::select! {
        () = give(to, lane, inlet) => {}
        () = async { take(from, lane, shared.nats, outlet).await; std::future::pending().await } => {}
    }
}

/// Cuts what comes into frames and decides on each; an empty one says that no more will come.
async fn take(from: &mut OwnedReadHalf, lane: &Lane, nats: bool, outlet: mpsc::Sender<(Instant, Vec<u8>)>) {
    let mut cutter = Cutter::new(nats);
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut chunk).await.unwrap_or(0);
        if read == 0 {
            let _ = outlet.send((Instant::now(), Vec::new())).await;
            return;
        }
        cutter.push(&chunk[..read]);
        while let Some(frame) = cutter.next() {
            for bytes in lane.strike(frame) {
                let at = Instant::now() + lane.weather.lock().unwrap().delay;
                if outlet.send((at, bytes)).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn give(to: &mut OwnedWriteHalf, lane: &Lane, mut inlet: mpsc::Receiver<(Instant, Vec<u8>)>) {
    while let Some((at, bytes)) = inlet.recv().await.filter(|(_, bytes)| !bytes.is_empty()) {
        tokio::time::sleep_until(at).await;
        let pace = lane.weather.lock().unwrap().pace;
        let step = pace.map_or(bytes.len(), |pace| (pace / STEPS_A_SECOND).max(1) as usize);
        for part in bytes.chunks(step) {
            if to.write_all(part).await.is_err() {
                return;
            }
            if pace.is_some() {
                tokio::time::sleep(Duration::from_secs(1) / STEPS_A_SECOND).await;
            }
        }
    }
}

impl Lane {
    /// What of a frame goes on.
    fn strike(&self, frame: Frame) -> Vec<Vec<u8>> {
        let swallow = self.weather.lock().unwrap().swallow;
        let fate = match (&frame.subject, &mut *self.rule.lock().unwrap()) {
            _ if swallow => Fate::Drop,
            (Some(subject), Some(rule)) => rule(subject),
            _ => return vec![frame.bytes],
        };
        if fate != Fate::Pass {
            self.struck.fetch_add(1, Ordering::AcqRel);
        }
        match fate {
            Fate::Pass => vec![frame.bytes],
            Fate::Drop => Vec::new(),
            Fate::Twice => vec![frame.bytes.clone(), frame.bytes],
            Fate::Hold => {
                self.held.lock().unwrap().push(frame.bytes);
                Vec::new()
            }
            Fate::Damage => vec![frame.damaged()],
        }
    }
}
