use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::hub::{Limits, Totals};
use crate::socket::Deadlines;
use crate::socket::testing::House;

/// Runs a test on a thread of its own, as connections run, with time that passes by itself.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

fn house() -> House {
    House::new(Deadlines::default(), Limits::default())
}

struct Client(DuplexStream);

impl Client {
    /// A client whose kernel takes so many bytes that it does not read.
    fn connect(worker: &Rc<Worker>, room: usize) -> Self {
        let (theirs, ours) = tokio::io::duplex(room);
        let seat = worker.sockets.hub.admit("192.0.2.1".parse().unwrap()).unwrap();
        accept(worker, ours, Speech::WebSocket, Bytes::new(), b"", seat, None);
        Self(theirs)
    }

    async fn say(&mut self, kind: &str, token: &str) {
        let text = serde_json::json!({ "type": kind, "token": token }).to_string();
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next message in short: its type and the number of its version; or the end.
    async fn hear(&mut self) -> String {
        let Ok(first) = self.0.read_u8().await else { return "end".to_owned() };
        let length = match self.0.read_u8().await.unwrap() {
            126 => self.0.read_u16().await.unwrap(),
            short => short.into(),
        };
        let mut payload = vec![0; length.into()];
        self.0.read_exact(&mut payload).await.unwrap();
        if first == 0x88 {
            return format!("close {}", u16::from_be_bytes([payload[0], payload[1]]));
        }
        let message: Value = serde_json::from_slice(&payload).unwrap();
        let seq = message["pv"].as_str().and_then(|pv| pv.split_once('.')).map_or("", |(_, seq)| seq);
        format!("{} {seq}", message["type"].as_str().unwrap()).trim_end().to_owned()
    }

    async fn greeted(worker: &Rc<Worker>, token: &str) -> Self {
        let mut client = Self::connect(worker, 4096);
        client.say("hello", token).await;
        assert!(client.hear().await.starts_with("welcome"));
        client
    }
}

#[test]
fn heartbeats_and_deadlines_come_from_the_wheel() {
    run(async {
        let house = house();
        let worker = Worker::new(Arc::clone(&house.sockets));
        let began = tokio::time::Instant::now();
        let mut silent = Client::connect(&worker, 4096);
        let mut ben = Client::greeted(&worker, &house.token("ben", 10, &["editor"])).await;
        assert_eq!(silent.hear().await, "close 4408");
        assert!((5000..5100).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        assert_eq!(ben.hear().await, "heartbeat 10");
        assert!((25_000..25_100).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        house.change_role("editor");
        assert_eq!(ben.hear().await, "permissions_changed 11");
        assert_eq!(ben.hear().await, "heartbeat 11");
        assert_eq!(ben.hear().await, "close 4401", "told, and not refreshed within its time");
        assert_eq!(ben.hear().await, "end");
        assert_eq!(house.sockets.hub.totals(), Totals::default());
    });
}

#[test]
fn who_does_not_read_costs_one_version_and_is_closed() {
    run(async {
        let house = house();
        let worker = Worker::new(Arc::clone(&house.sockets));
        let mut slow = Client::connect(&worker, 320);
        slow.say("hello", &house.token("ben", 10, &[])).await;
        assert_eq!(slow.hear().await, "welcome 10");
        for seq in 11..100 {
            assert_eq!(house.change_user("ben"), seq);
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(4900)).await;
        assert_eq!(house.sockets.hub.totals().connections, 1, "not yet");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(house.sockets.hub.totals(), Totals::default(), "its place is free again");
        assert_eq!(slow.hear().await, "permissions_changed 11");
        assert_eq!(slow.hear().await, "permissions_changed 12");
        // Of the third only a part was taken, and there was nobody any more to write the rest.
        let mut rest = Vec::new();
        slow.0.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() < 100, "{}", rest.len());
    });
}

#[test]
fn who_reads_at_last_is_told_why_it_ends() {
    run(async {
        let house = house();
        let worker = Worker::new(Arc::clone(&house.sockets));
        let mut slow = Client::connect(&worker, 320);
        slow.say("hello", &house.token("ben", 10, &[])).await;
        assert_eq!(slow.hear().await, "welcome 10");
        for _ in 11..20 {
            house.change_user("ben");
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(5100)).await;
        assert_eq!(slow.hear().await, "permissions_changed 11");
        assert_eq!(slow.hear().await, "permissions_changed 12");
        assert!(slow.hear().await.starts_with("permissions_changed"), "what was begun is ended");
        assert_eq!(slow.hear().await, "close 1012");
        assert_eq!(slow.hear().await, "end");
    });
}

#[test]
fn a_stop_is_spread_over_its_time() {
    run(async {
        let deadlines = Deadlines { drain: Duration::from_secs(2), ..Deadlines::default() };
        let house = House::new(deadlines, Limits::default());
        let worker = Worker::new(Arc::clone(&house.sockets));
        let mut ben = Client::greeted(&worker, &house.token("ben", 10, &[])).await;
        let mut stranger = Client::connect(&worker, 4096);
        tokio::join!(house.sockets.drain(), async {
            for client in [&mut ben, &mut stranger] {
                assert_eq!(client.hear().await, "draining");
                assert_eq!(client.hear().await, "close 1012");
                assert_eq!(client.hear().await, "end");
            }
        });
        assert_eq!(house.sockets.hub.totals(), Totals::default());
    });
}

#[test]
fn a_connection_is_small() {
    // What an idle connection holds beside its socket, its place in the hub and its state.
    assert!(size_of::<Lean<tokio::net::TcpStream>>() <= 288, "{}", size_of::<Lean<tokio::net::TcpStream>>());
}
