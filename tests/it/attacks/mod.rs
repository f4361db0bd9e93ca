//! The attack list: what RFC 8725 (tokens), RFC 9700 (refresh tokens) and the practice of breaking into web services know,
//! against the real program by every door. Each attempt is refused as the contract says, and changes nothing.

mod browsers;
mod climbing;
mod flood;
mod guessing;
mod injection;
mod refresh;
mod smuggling;
mod tokens;

use serde_json::Value;

use crate::client::{Answer, Client};
use crate::company::company;
use crate::errors::everything;
use crate::harness::Cluster;

/// The company, and how all stood before the attack.
struct Scene {
    cluster: Cluster,
    root: Client,
    head: String,
    before: Vec<Value>,
}

impl Scene {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(settings: &[(&str, &str)]) -> Self {
        let cluster = Cluster::start_with(settings).await;
        let (root, _) = company(&cluster).await;
        let mut scene = Self { cluster, root, head: String::new(), before: Vec::new() };
        scene.mark().await;
        scene
    }

    /// From here on nothing is to change.
    async fn mark(&mut self) {
        (self.head, self.before) = (head(&self.cluster), everything(&self.root).await);
    }

    /// No change was made: not one row of the log, and all reads as before.
    async fn is_as_it_was(&self) {
        assert_eq!(head(&self.cluster), self.head, "the log went on");
        assert_eq!(everything(&self.root).await, self.before);
    }

    /// Somebody of the first tenant, before the other replica.
    async fn on_b(&self, user: &str) -> Client {
        let client = self.cluster.b.client();
        client.with(&client.login(user).await)
    }
}

fn head(cluster: &Cluster) -> String {
    cluster.sql("SELECT max(seq) FROM changes")
}

/// Refused for what was asked: neither let through nor answered by an error of ours.
fn refused(answer: &Answer, what: &str) {
    assert!((400..500).contains(&answer.status.as_u16()), "{what}: {answer:?}");
}
