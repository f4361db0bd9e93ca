//! One who sees to it that a change through replica `a` takes effect at replica `b`.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::client::{Answer, Client, Tokens, seq};
use crate::company::company;
use crate::harness::{Cluster, soon};
use crate::socket::{Next, Socket};

/// How long a change may take that only the log brings: the poll interval of these tests and room for a busy machine.
pub(crate) const IN_TIME: Duration = Duration::from_secs(1);
/// The bound of the guarantee, by default.
pub(crate) const BOUND: Duration = Duration::from_secs(1);

const QUESTION: &str = "/v1/forward-auth?require=probe:use";

/// `ben`, who is connected at `b`, while `root` gives him a permission at `a` and takes it.
pub(crate) struct Witness {
    pub(crate) root: Client,
    pub(crate) on_b: Client,
    pub(crate) tokens: Tokens,
    pub(crate) socket: Socket,
    holds: bool,
}

impl Witness {
    /// Makes the company, and ben come.
    pub(crate) async fn new(cluster: &Cluster) -> Self {
        let (root, _) = company(cluster).await;
        let on_b = cluster.b.client();
        let tokens = on_b.login("ben").await;
        let socket = Socket::hello(&on_b, &tokens).await;
        Self { root, on_b, tokens, socket, holds: false }
    }

    pub(crate) fn ben(&self) -> Client {
        self.on_b.with(&self.tokens)
    }

    /// Gives or takes the permission, by turns, and gives the version of it. Nothing is looked at yet.
    pub(crate) async fn turn(&mut self) -> String {
        let method = if self.holds { Method::DELETE } else { Method::PUT };
        let request = self.root.request(method, "/v1/tenants/default/users/ben/permissions/probe:use");
        let version = crate::client::send(request).await.version();
        self.holds = !self.holds;
        version
    }

    /// One change, and all that is promised of it: it is enforced here in time, and no one later than the bound passes by
    /// what was before; the client is told; who was told cannot read the old answer; a fresh token is fresh.
    pub(crate) async fn change(&mut self) -> Duration {
        let version = self.turn().await;
        let took = self.takes_effect(&version).await;
        assert!(took < IN_TIME, "{version} took {took:?}");
        took
    }

    /// The same, however long it takes.
    pub(crate) async fn takes_effect(&mut self, version: &str) -> Duration {
        let acknowledged = Instant::now();
        let before = self.ben();
        let enforced = async {
            loop {
                let asked = acknowledged.elapsed();
                let answer = before.get(QUESTION).await;
                match answer.status.as_u16() {
                    // Of several changes an earlier one may be here first.
                    401 if seq(&answer.stale()) >= seq(version) => return acknowledged.elapsed(),
                    401 | 503 => {}
                    200 | 403 => assert!(asked < BOUND, "asked {asked:?} after {version}, and {answer:?}"),
                    _ => panic!("{answer:?}"),
                }
            }
        };
        let socket = &mut self.socket;
        let (took, ()) = soon("the change", async { tokio::join!(enforced, told(socket, version)) }).await;
        self.before_me(before.get("/v1/me").await.status.as_u16(), 401);
        self.refresh().await;
        self.before_me(self.ben().get(QUESTION).await.status.as_u16(), if self.holds { 200 } else { 403 });
        took
    }

    fn before_me(&self, status: u16, expected: u16) {
        assert_eq!(status, expected, "with the permission: {}", self.holds);
    }

    /// Ben takes a fresh token to his connection.
    pub(crate) async fn refresh(&mut self) {
        self.tokens = self.on_b.refresh(&self.tokens).await;
        self.socket.say(json!({"type": "refresh", "token": self.tokens.access})).await;
        self.socket.expect("refreshed").await;
    }

    /// Nothing was said to the client that he has not read, and his token holds.
    pub(crate) async fn is_left_alone(&mut self) {
        self.ben().get("/v1/me").await.ok();
        self.socket.say(json!({"type": "ping"})).await;
        self.socket.expect_heartbeat_next().await;
    }

    /// What the replica says of itself.
    pub(crate) async fn ready(&self) -> Answer {
        self.on_b.get("/readyz").await
    }
}

/// Waits until the client was told of a version, or of one further.
async fn told(socket: &mut Socket, version: &str) {
    loop {
        match socket.next().await {
            Next::Message(message) if message["type"] == "permissions_changed" => {
                if seq(message["pv"].as_str().unwrap()) >= seq(version) {
                    return;
                }
            }
            other => panic!("{other:?}, and {version} was to be told"),
        }
    }
}
