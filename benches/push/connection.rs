//! One client: a task that holds a socket, and next to nothing else.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use permcast::domain::Random;
use permcast::runtime::SystemRandom;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::SemaphorePermit;

use super::ask::Speech;
use super::clock::now;
use super::wire::{self, BINARY, CLOSE, PING, PONG, TEXT, Unread};
use super::worker::Clients;

/// Connections from one of our addresses. It has 28,000 ports, but the kernel looks long for one that is free where many of
/// earlier connections are still on their way out.
const AN_ADDRESS: usize = 500;
/// Who is refused or cut off comes back within this, unless he was told a time.
const BACK_WITHIN: Duration = Duration::from_millis(500);

thread_local! {
    /// All connections of the thread read into this one.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// Why a connection ended, or did not come to be.
struct Ended {
    /// When to come back, at the latest.
    back_within: Duration,
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self { back_within: BACK_WITHIN }
    }
}

/// Connects, stays, and comes back when it is cut off. `permit` is held until the first welcome.
pub async fn live(clients: Rc<Clients>, number: usize, due: u64, permit: Option<SemaphorePermit<'_>>) {
    let (mut due, mut permit) = (due, permit);
    for attempt in 0..100 {
        let first = if clients.spread.get() { number } else { 0 };
        let server = clients.servers[(first + attempt) % clients.servers.len()];
        let client = Rc::new(Client {
            clients: Rc::clone(&clients),
            number,
            refreshing: Cell::new(false),
            welcome: Cell::new(false),
        });
        let ended = client.stay(server, due, &mut permit).await;
        let Err(Ended { back_within }) = ended else { return };
        if client.welcome.get() {
            clients.live.set(clients.live.get() - 1);
            due = now();
        } else {
            clients.again.set(clients.again.get() + 1);
        }
        tokio::time::sleep(uniform(back_within)).await;
    }
}

struct Client {
    clients: Rc<Clients>,
    number: usize,
    refreshing: Cell<bool>,
    welcome: Cell<bool>,
}

impl Client {
    async fn stay(
        self: &Rc<Self>,
        server: SocketAddr,
        due: u64,
        permit: &mut Option<SemaphorePermit<'_>>,
    ) -> Result<(), Ended> {
        let stream = Rc::new(self.connect(server).await?);
        let mut unread = Unread::default();
        let head = self.request();
        write(&stream, head.as_bytes()).await?;
        let (status, text, rest) = loop {
            let head = read(&stream, |bytes| unread.head(bytes)).await?;
            if let Some(head) = head {
                break head;
            }
        };
        if !matches!(status, 101 | 200) {
            let retry_after = text.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("retry-after:").map(|rest| rest.trim().parse())
            });
            let seconds = retry_after.and_then(Result::ok).unwrap_or(0);
            return Err(Ended { back_within: BACK_WITHIN + Duration::from_secs(seconds) });
        }
        if let Some(first) = self.first_message() {
            write(&stream, &first).await?;
        }
        let mut back_within = BACK_WITHIN;
        let mut ended = false;
        self.take(&stream, &mut unread, &rest, due, permit, &mut back_within, &mut ended);
        while !ended {
            let taken = read(&stream, |bytes| {
                self.take(&stream, &mut unread, bytes, due, permit, &mut back_within, &mut ended);
            });
            if taken.await.is_err() {
                break;
            }
        }
        Err(Ended { back_within })
    }

    async fn connect(&self, server: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let address = 2 + u8::try_from(self.number / AN_ADDRESS % 250).expect("below 250");
        socket.bind((Ipv4Addr::new(127, 0, 0, address), 0).into())?;
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn request(&self) -> String {
        match self.clients.speech {
            Speech::Socket => wire::handshake("/v1/ws", Some("permcast.v1")),
            Speech::Nats | Speech::Bare => wire::handshake("/", None),
            Speech::Events => {
                let tokens = self.clients.tokens.borrow();
                let token = &tokens[self.number].access;
                format!("GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
            }
        }
    }

    fn first_message(&self) -> Option<Vec<u8>> {
        match self.clients.speech {
            Speech::Socket | Speech::Bare => Some(self.message("hello")),
            Speech::Events => None,
            Speech::Nats => {
                let number = self.number;
                let subscribe = [
                    format!("u.{number}"),
                    "role.all".into(),
                    format!("role.team-{}", number % 100),
                    format!("role.kind-{}", number % 10),
                ];
                let mut text = "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\n".to_owned();
                for (id, subject) in subscribe.iter().enumerate() {
                    let _ = write!(text, "SUB {subject} {id}\r\n");
                }
                text.push_str("PING\r\n");
                Some(wire::masked(BINARY, text.as_bytes()))
            }
        }
    }

    /// A message of this type with the client's token.
    fn message(&self, kind: &str) -> Vec<u8> {
        let tokens = self.clients.tokens.borrow();
        let token = tokens.get(self.number).map_or("", |tokens| &tokens.access);
        wire::masked(TEXT, format!("{{\"type\":\"{kind}\",\"token\":\"{token}\"}}").as_bytes())
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one loop")]
    fn take(
        self: &Rc<Self>,
        stream: &Rc<TcpStream>,
        unread: &mut Unread,
        bytes: &[u8],
        due: u64,
        permit: &mut Option<SemaphorePermit<'_>>,
        back_within: &mut Duration,
        ended: &mut bool,
    ) {
        let at = now();
        let mut heard = |message: &[u8]| {
            if let Some(seq) = told(message) {
                self.clients.told.borrow_mut().push((self.number, seq, at));
                self.clients.grown.notify_one();
                if self.clients.act.get() && !self.refreshing.replace(true) {
                    let within = Duration::from_millis(wire::number(message, "refresh_within_ms").unwrap_or(0));
                    tokio::task::spawn_local(refresh(Rc::clone(self), Rc::clone(stream), within));
                }
            } else if !self.welcome.get() && self.welcomes(message) {
                self.welcome.set(true);
                permit.take();
                self.clients.live.set(self.clients.live.get() + 1);
                self.clients.welcomed.borrow_mut().push((at, at.saturating_sub(due)));
                self.clients.grown.notify_one();
            } else if wire::find(message, b"\"refreshed\"").is_some() {
                self.clients.refreshed.borrow_mut().fresh_at.push(at);
                self.clients.grown.notify_one();
            } else if wire::find(message, b"PING\r\n").is_some() {
                let _ = stream.try_write(&wire::masked(BINARY, b"PONG\r\n"));
            } else if let Some(millis) = wire::number(message, "reconnect_within_ms") {
                *back_within = Duration::from_millis(millis);
            }
        };
        if self.clients.speech == Speech::Events {
            return heard(bytes);
        }
        unread.frames(bytes, |(opcode, payload)| match opcode {
            CLOSE => {
                let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                *self.clients.closed.borrow_mut().entry(code).or_default() += 1;
                *ended = true;
            }
            PING => drop(stream.try_write(&wire::masked(PONG, payload))),
            _ => heard(payload),
        });
    }

    fn welcomes(&self, message: &[u8]) -> bool {
        let mark: &[u8] = if self.clients.speech == Speech::Nats { b"PONG\r\n" } else { b"welcome" };
        wire::find(message, mark).is_some()
    }
}

/// The number of the change, where a message tells of one.
fn told(message: &[u8]) -> Option<u64> {
    wire::find(message, b"permissions_changed").and_then(|_| wire::seq(message))
}

/// As the TypeScript client does: waits a part of the time that it was given, then comes for a token, and again when it
/// is told that too many do; and gives it to its connection.
async fn refresh(client: Rc<Client>, stream: Rc<TcpStream>, within: Duration) {
    let clients = &client.clients;
    tokio::time::sleep(uniform(within)).await;
    loop {
        let body = {
            let tokens = clients.tokens.borrow();
            format!("grant_type=refresh_token&refresh_token={}", tokens[client.number].refresh)
        };
        let answer = {
            let _permit = clients.requests.acquire().await;
            let mut http = clients.https.borrow_mut().pop().expect("as many as permits");
            let answer = http.form("/oauth/token", &body).await;
            clients.https.borrow_mut().push(http);
            answer
        };
        if answer.status == 200 {
            let json = answer.json();
            let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
            let tokens = &mut clients.tokens.borrow_mut()[client.number];
            (tokens.access, tokens.refresh) = (text("access_token"), text("refresh_token"));
            clients.refreshed.borrow_mut().answered_at.push(now());
            break;
        }
        clients.refreshed.borrow_mut().busy += 1;
        let wait = answer.retry_after.unwrap_or(Duration::from_secs(1));
        tokio::time::sleep(wait + uniform(wait)).await;
    }
    client.refreshing.set(false);
    let _ = write(&stream, &client.message("refresh")).await;
}

async fn read<T>(stream: &TcpStream, take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    loop {
        stream.readable().await?;
        let read = BUFFER.with_borrow_mut(|buffer| match stream.try_read(buffer) {
            Ok(0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => Some(Ok(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        });
        match read {
            None => {}
            Some(Err(error)) => return Err(error),
            Some(Ok(length)) => return Ok(BUFFER.with_borrow(|buffer| take(&buffer[..length]))),
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Anything up to `limit`, each as likely.
fn uniform(limit: Duration) -> Duration {
    let random: &dyn Random = &SystemRandom;
    random.up_to(limit)
}
