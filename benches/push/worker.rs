//! A process of clients: thousands of connections on one thread, so that the server has the other core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{JoinSet, LocalSet};

use super::ask::{Ask, Opened, Refreshed, Speech, Stand, Tokens, Told};
use super::clock::now;
use super::connection;
use super::http::Http;

/// Connections for requests; a browser has its own, but then half of the files would be theirs.
const REQUESTS_AT_ONCE: usize = 48;

/// What all clients of this process share.
pub struct Clients {
    pub speech: Speech,
    pub servers: Vec<std::net::SocketAddr>,
    pub spread: Cell<bool>,
    pub tokens: Rc<RefCell<Vec<Tokens>>>,
    pub act: Rc<Cell<bool>>,
    pub live: Cell<usize>,
    pub again: Cell<u64>,
    pub welcomed: RefCell<Vec<(u64, u64)>>,
    pub told: RefCell<Vec<(usize, u64, u64)>>,
    pub refreshed: RefCell<Refreshed>,
    pub closed: RefCell<BTreeMap<u16, u64>>,
    /// Something of the above has grown.
    pub grown: Notify,
    pub requests: Semaphore,
    pub https: RefCell<Vec<Http>>,
}

impl Clients {
    fn new(
        speech: Speech,
        servers: Vec<std::net::SocketAddr>,
        tokens: &Rc<RefCell<Vec<Tokens>>>,
        act: &Rc<Cell<bool>>,
    ) -> Rc<Self> {
        let https = servers.iter().cycle().take(REQUESTS_AT_ONCE).map(|&server| Http::new(server)).collect();
        Rc::new(Self {
            speech,
            servers,
            spread: Cell::default(),
            tokens: Rc::clone(tokens),
            act: Rc::clone(act),
            live: Cell::new(0),
            again: Cell::new(0),
            welcomed: RefCell::default(),
            told: RefCell::default(),
            refreshed: RefCell::new(nothing_refreshed()),
            closed: RefCell::default(),
            grown: Notify::new(),
            requests: Semaphore::new(REQUESTS_AT_ONCE),
            https: RefCell::new(https),
        })
    }

    /// Waits until `there_is` enough, at most so long.
    async fn until(&self, within_ms: u64, there_is: impl Fn() -> bool) {
        let waiting = async {
            while !there_is() {
                self.grown.notified().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(within_ms), waiting).await;
    }

    fn stand(&self) -> Stand {
        Stand {
            live: self.live.get(),
            closed: self.closed.borrow().iter().map(|(&code, &times)| (code, times)).collect(),
        }
    }

    fn opened(&self, began: u64) -> Opened {
        let (welcomed_at, took) = self.welcomed.take().into_iter().unzip();
        Opened { began, welcomed_at, took, again: self.again.take() }
    }
}

fn nothing_refreshed() -> Refreshed {
    Refreshed { answered_at: Vec::new(), fresh_at: Vec::new(), busy: 0 }
}

/// Does what the parent asks, until it asks no more.
pub fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (asks, asked) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let ask: Ask = serde_json::from_str(&line).expect("the parent asks what there is");
            if asks.blocking_send(ask).is_err() {
                return;
            }
        }
    });
    LocalSet::new().block_on(&runtime, serve(asked));
}

fn answer(answer: &impl serde::Serialize) {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer).expect("the parent listens");
    out.write_all(b"\n").and_then(|()| out.flush()).expect("the parent listens");
}

async fn serve(mut asked: mpsc::Receiver<Ask>) {
    let (tokens, act) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(false)));
    let mut clients = Clients::new(Speech::Bare, Vec::new(), &tokens, &act);
    let mut tasks = JoinSet::new();
    while let Some(ask) = asked.recv().await {
        match ask {
            Ask::Tokens(path) => {
                let text = std::fs::read_to_string(path).expect("the parent wrote it");
                *tokens.borrow_mut() = serde_json::from_str(&text).expect("the parent wrote it");
                answer(&tokens.borrow().len());
            }
            Ask::Open { speech, servers, spread, from, count, per_second, in_flight, within_ms } => {
                if (speech, &servers) != (clients.speech, &clients.servers) {
                    clients = Clients::new(speech, servers, &tokens, &act);
                }
                clients.spread.set(spread);
                let began = now();
                open(&clients, &mut tasks, from, count, per_second, in_flight).await;
                clients.until(within_ms, || clients.welcomed.borrow().len() >= count).await;
                answer(&clients.opened(began));
            }
            Ask::Back { want, within_ms } => {
                let began = now();
                clients.until(within_ms, || clients.welcomed.borrow().len() >= want).await;
                answer(&clients.opened(began));
            }
            Ask::Act(acts) => {
                act.set(acts);
                answer(&acts);
            }
            Ask::Told { want, within_ms } => {
                clients.until(within_ms, || clients.told.borrow().len() >= want).await;
                answer(&Told(clients.told.take()));
            }
            Ask::Refreshed { want, within_ms } => {
                clients.until(within_ms, || clients.refreshed.borrow().fresh_at.len() >= want).await;
                answer(&clients.refreshed.replace(nothing_refreshed()));
            }
            Ask::Stand => answer(&clients.stand()),
            Ask::Drop => {
                tasks.shutdown().await;
                clients.live.set(0);
                clients.told.take();
                clients.welcomed.take();
                answer(&clients.stand());
            }
        }
    }
}

async fn open(
    clients: &Rc<Clients>,
    tasks: &mut JoinSet<()>,
    from: usize,
    count: usize,
    per_second: Option<u32>,
    in_flight: usize,
) {
    let gate = Rc::new(tokio::sync::Semaphore::new(in_flight));
    let began = now();
    for number in 0..count {
        let due = per_second.map(|rate| began + number as u64 * 1_000_000_000 / u64::from(rate));
        // Timers here are no finer than a millisecond: who is due within it goes now.
        if let Some(wait) = due.and_then(|due| due.checked_sub(now())).filter(|wait| *wait > 1_000_000) {
            tokio::time::sleep(Duration::from_nanos(wait)).await;
        }
        let clients = Rc::clone(clients);
        let gate = Rc::clone(&gate);
        tasks.spawn_local(async move {
            let permit = gate.acquire().await;
            connection::live(clients, from + number, due.unwrap_or_else(now), permit.ok()).await;
        });
    }
}
