use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use super::super::testing::House;
use super::super::{Deadlines, Received, Refused};
use super::*;
use crate::domain::Stamp;
use crate::hub::{Limits, Totals};
use crate::protocol::frame::TextFrame;
use crate::protocol::socket::CloseCode;

/// What the client sees.
#[derive(Debug, PartialEq)]
enum Seen {
    Message(Value),
    Closed(u16),
}

/// A carrier whose other end is in the test's hands.
struct Line {
    from_client: mpsc::Receiver<Received>,
    to_client: mpsc::Sender<Seen>,
}

impl Carrier for Line {
    async fn receive(&mut self) -> Received {
        self.from_client.recv().await.unwrap_or(Received::Gone)
    }
    async fn send(&mut self, frame: TextFrame) -> Result<(), Refused> {
        let message = serde_json::from_str(&frame.text()).unwrap();
        self.to_client.send(Seen::Message(message)).await.map_err(|_| Refused)
    }
    async fn close(&mut self, code: CloseCode) {
        let _ = self.to_client.try_send(Seen::Closed(code.code()));
    }
}

struct Client {
    say: mpsc::Sender<Received>,
    hear: mpsc::Receiver<Seen>,
}

impl Client {
    /// A client that takes so many messages without reading them.
    fn connect(house: &House, room: usize) -> Self {
        let (say, from_client) = mpsc::channel(8);
        let (to_client, hear) = mpsc::channel(room);
        let seat = house.sockets.hub.admit("192.0.2.1".parse().unwrap()).unwrap();
        let line = Line { from_client, to_client };
        house.sockets.run(drive(Arc::clone(&house.sockets), seat, None, line));
        Self { say, hear }
    }

    async fn say(&self, kind: &str, token: &str) {
        let text = serde_json::json!({ "type": kind, "token": token }).to_string();
        self.say.send(Received::Text(text.into())).await.unwrap();
    }

    /// The next message in short: its type and the number of its version.
    async fn hear(&mut self) -> String {
        match self.hear.recv().await.expect("a message or a close") {
            Seen::Closed(code) => format!("close {code}"),
            Seen::Message(message) => {
                let seq = message["pv"].as_str().and_then(|pv| pv.split_once('.')).map_or("", |(_, seq)| seq);
                format!("{} {seq}", message["type"].as_str().unwrap()).trim_end().to_owned()
            }
        }
    }

    async fn greeted(house: &House, token: &str) -> Self {
        let mut client = Self::connect(house, 8);
        client.say("hello", token).await;
        assert!(client.hear().await.starts_with("welcome"));
        client
    }
}

fn house() -> House {
    House::new(Deadlines::default(), Limits::default())
}

/// Runs a test on a thread of its own, as connections run, with time that passes by itself.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_change_reaches_the_client_and_its_refresh_the_receipt() {
    run(async {
        let house = house();
        let mut ben = Client::greeted(&house, &house.token("ben", 10, &["editor"])).await;
        let mut cleo = Client::greeted(&house, &house.token("cleo", 10, &["viewer"])).await;
        let seq = house.change_role("editor");
        assert_eq!(ben.hear().await, "permissions_changed 11");
        let receipt = || {
            let receipt = house.sockets.hub.receipt(Stamp::new(1, crate::domain::Seq::new(seq).unwrap()));
            (receipt.affected, receipt.notified, receipt.refreshed)
        };
        assert_eq!(receipt(), (1, 1, 0));
        ben.say("refresh", &house.token("ben", 11, &["editor", "billing"])).await;
        assert_eq!(ben.hear().await, "refreshed 11");
        house.change_role("billing");
        assert_eq!(ben.hear().await, "permissions_changed 12", "it stands on its new role");
        assert_eq!(receipt(), (1, 1, 1));
        assert_eq!(cleo.hear().await, "heartbeat 12", "and to the other nothing was said");
    });
}

#[test]
fn who_does_not_read_is_closed_and_costs_one_version() {
    run(async {
        let house = house();
        let mut slow = Client::connect(&house, 2);
        slow.say("hello", &house.token("ben", 10, &[])).await;
        assert_eq!(slow.hear().await, "welcome 10");
        for seq in 11..100 {
            assert_eq!(house.change_user("ben"), seq);
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(house.sockets.hub.totals(), Totals::default(), "its place is free again");
        assert_eq!(slow.hear().await, "permissions_changed 11");
        assert_eq!(slow.hear().await, "permissions_changed 12");
        assert_eq!(slow.hear.recv().await, None, "there was no room even for the close");
    });
}

#[test]
fn a_thin_token_follows_the_cache() {
    run(async {
        let house = house();
        house.cached("ben", 10, &["editor"]);
        let mut ben = Client::greeted(&house, &house.thin("ben", 10)).await;
        house.cached("ben", 11, &["viewer"]);
        house.change_role("editor");
        assert_eq!(ben.hear().await, "permissions_changed 11");
        tokio::time::sleep(Duration::from_secs(1)).await;
        house.change_role("editor");
        house.cached("ben", 13, &["viewer"]);
        house.change_role("viewer");
        assert_eq!(ben.hear().await, "permissions_changed 13", "it stands on his roles of now");
        for _ in 0..4 {
            assert_eq!(ben.hear().await, "heartbeat 13", "and need not be refreshed");
        }
        house.end_session("ben");
        assert_eq!(ben.hear().await, "session_revoked");
        assert_eq!(ben.hear().await, "close 4403");
    });
}

#[test]
fn a_thin_token_that_was_away_is_told_what_changed_since_it_was_made() {
    run(async {
        let house = house();
        let token = house.thin("ben", 10);
        house.change_role("editor");
        house.cached("ben", 11, &["editor"]);
        let mut ben = Client::greeted(&house, &token).await;
        assert_eq!(ben.hear().await, "permissions_changed 11");
        assert_eq!(ben.hear().await, "heartbeat 11");
    });
}

#[test]
fn a_change_between_registering_and_comparing_is_not_lost() {
    run(async {
        let house = house();
        // Applied here before the client comes with a token from before.
        let token = house.token("ben", 10, &["editor"]);
        house.change_role("editor");
        let mut ben = Client::greeted(&house, &token).await;
        assert_eq!(ben.hear().await, "permissions_changed 11");
        ben.say("refresh", &token).await;
        assert_eq!(ben.hear().await, "permissions_changed 11");
        assert_eq!(ben.hear().await, "heartbeat 11");
        assert_eq!(ben.hear().await, "close 4401");
    });
}

#[test]
fn the_server_stops_with_a_word() {
    run(async {
        let house = house();
        let mut ben = Client::greeted(&house, &house.token("ben", 10, &[])).await;
        let mut stranger = Client::connect(&house, 8);
        house.sockets.drain().await;
        for client in [&mut ben, &mut stranger] {
            assert_eq!(client.hear().await, "draining");
            assert_eq!(client.hear().await, "close 1012");
        }
        assert_eq!(house.sockets.hub.totals(), Totals::default());
    });
}

#[test]
fn who_says_nothing_or_the_wrong_thing_is_closed() {
    run(async {
        let house = house();
        let mut silent = Client::connect(&house, 8);
        assert_eq!(silent.hear().await, "close 4408");
        let mut liar = Client::connect(&house, 8);
        liar.say("hello", "no token").await;
        assert_eq!(liar.hear().await, "close 4401");
        house.token("ben", 10, &[]);
        house.end_session("ben");
        let mut late = Client::connect(&house, 8);
        late.say("hello", "ben.10.0").await;
        assert_eq!(late.hear().await, "session_revoked");
        assert_eq!(late.hear().await, "close 4403");
        let gone = Client::connect(&house, 8);
        drop(gone);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(house.sockets.hub.totals(), Totals::default());
    });
}

#[test]
fn the_oldest_of_too_many_is_closed() {
    run(async {
        let house = House::new(Deadlines::default(), Limits { per_user: 1, per_tenant: 2, ..Limits::default() });
        let token = house.token("ben", 10, &[]);
        let mut first = Client::greeted(&house, &token).await;
        let _second = Client::greeted(&house, &token).await;
        assert_eq!(first.hear().await, "close 4429");
        let _other = Client::greeted(&house, &house.token("cleo", 10, &[])).await;
        let mut third = Client::connect(&house, 8);
        third.say("hello", &house.token("dora", 10, &[])).await;
        assert_eq!(third.hear().await, "error");
        assert_eq!(third.hear().await, "close 1012");
    });
}
