//! How long a change is under way to a client of another host, beside what the links alone take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::ground::Ground;
use super::history::user_name;
use super::hosts::Hosts;
use super::people::{Person, Token};
use super::process::{OPERATOR, PATIENCE};
use super::world::World;

/// Where it is changed, and where he is who is told.
const HERE: usize = 0;
const THERE: usize = 1;
/// By the log's tail it could be sooner than by the broker, where links are slow.
pub(crate) const BY_MESSAGE_ALONE: &[(&str, &str)] =
    &[("PERMCAST_POLL_INTERVAL", "8s"), ("PERMCAST_MAX_STALENESS", "16s")];
/// From the replica that committed to the broker, to the other replica and to its client.
const CROSSINGS: u32 = 3;

/// What was measured over links of one delay.
#[derive(Debug)]
pub(crate) struct Distance {
    delay: Duration,
    round_trip: Duration,
    /// Sorted.
    commit_to_frame: Vec<Duration>,
}

impl Distance {
    pub(crate) async fn measure(seed: u64, delay: Duration, rounds: usize) -> Self {
        let ground = Ground::Hosts(Arc::new(Hosts::build(seed, delay)));
        let world = World::start(1, ground).await;
        // All replicas at one broker: between two there would be a crossing more.
        for broker in &world.brokers[1..] {
            broker.lock().await.process.kill().await;
        }
        world.come_to_rest().await;
        let round_trip = round_trip(&world).await;
        let (root, ben) = (Person::new(OPERATOR), Person::new(user_name(0)));
        let mut token = ben.token(&world, THERE).await.expect("he may sign in");
        let mut socket = connect(&world, THERE, &token).await;
        let mut commit_to_frame = Vec::new();
        let path = format!("/v1/tenants/default/users/{}/permissions/distance:cross", ben.name);
        let mut acting = root.token(&world, HERE).await.expect("he may sign in");
        for round in 0..rounds {
            let method = if round % 2 == 0 { Method::PUT } else { Method::DELETE };
            let change = async {
                let answer = world.ask(HERE, method, &path, Some(&acting.text), None).await;
                assert_eq!(answer.map(|answer| answer.status), Ok(200));
                Instant::now()
            };
            let (answered, (told, pv)) = tokio::join!(change, async {
                let told = next(&mut socket, "permissions_changed").await;
                (Instant::now(), world.seq(told["pv"].as_str().expect("a version")))
            });
            // The answer was given at the commit, and has crossed one link.
            commit_to_frame.push((told + round_trip / 2).saturating_duration_since(answered));
            token = ben.renew(&world, THERE, &token, pv).await.expect("he may refresh");
            say(&mut socket, &json!({"type": "refresh", "token": token.text})).await;
            next(&mut socket, "refreshed").await;
            // Before its time is up.
            if round % 10 == 9 {
                acting = root.renew(&world, HERE, &acting, None).await.expect("he may refresh");
            }
        }
        drop(socket);
        world.end().await;
        commit_to_frame.sort();
        Self { delay, round_trip, commit_to_frame }
    }

    fn quantile(&self, percent: usize) -> Duration {
        self.commit_to_frame[self.commit_to_frame.len() * percent / 100]
    }

    /// Nothing arrives sooner than links allow. What is late by the answer's crossing makes it seem sooner.
    pub(crate) fn check(&self) {
        assert!(self.round_trip >= self.delay * 2, "{self:?}");
        assert!(self.quantile(50) >= self.delay * (CROSSINGS - 1), "{self:?}");
    }

    pub(crate) fn shown(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let beyond = |percent| ms(self.quantile(percent)) - ms(self.round_trip * CROSSINGS / 2);
        format!(
            "{:>7} {:>8.2} {:>9.2} {:>9.2} {:>12.2} {:>7.2}",
            format!("{:?}", self.delay),
            ms(self.round_trip),
            ms(self.quantile(50)),
            ms(self.quantile(99)),
            beyond(50),
            beyond(99)
        )
    }

    pub(crate) const COLUMNS: &str = "one way      RTT       p50       p99   beyond: p50     p99   commit → frame in ms, and beyond its three crossings";
}

/// What the link takes by itself: the kernels shake hands.
async fn round_trip(world: &World) -> Duration {
    let address = world.base(THERE).replace("http://", "");
    let mut all = Vec::new();
    for _ in 0..15 {
        let begun = Instant::now();
        TcpStream::connect(&address).await.expect("it is there");
        all.push(begun.elapsed());
    }
    all.sort();
    all[all.len() / 2]
}

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) async fn connect(world: &World, replica: usize, token: &Token) -> Socket {
    let url = format!("{}/v1/ws", world.base(replica).replacen("http", "ws", 1));
    let mut request = url.into_client_request().expect("an address");
    request.headers_mut().insert("Sec-WebSocket-Protocol", "permcast.v1".parse().expect("a header"));
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("it is there");
    say(&mut socket, &json!({"type": "hello", "token": token.text})).await;
    next(&mut socket, "welcome").await;
    socket
}

async fn say(socket: &mut Socket, message: &Value) {
    socket.send(Message::text(message.to_string())).await.expect("it is there");
}

pub(crate) async fn next(socket: &mut Socket, kind: &str) -> Value {
    let coming = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    if message["type"] == kind {
                        return message;
                    }
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?}, and {kind} was to come"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, coming).await.expect("it comes")
}
