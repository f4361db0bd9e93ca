//! A cluster of three servers of the broker, each replica at home on another. Whichever is lost, frozen or restarted, a
//! change through one replica is enforced at the other in time and told to its client.

use crate::harness::{Cluster, Nats};
use crate::proxy::{Proxy, Way};
use crate::wire::broker_is;
use crate::witness::Witness;

/// Three servers, and each replica's ways to all of them, its own first.
struct Three {
    servers: Vec<Nats>,
    ways: [Vec<Proxy>; 2],
    cluster: Cluster,
}

impl Three {
    async fn start() -> Self {
        let first = Nats::join(&[]).await;
        let second = Nats::join(&[&first]).await;
        let third = Nats::join(&[&first, &second]).await;
        let servers = vec![first, second, third];
        let mut ways = [Vec::new(), Vec::new()];
        for own in &mut ways {
            for server in &servers {
                own.push(Proxy::to_nats(&server.url).await);
            }
        }
        let urls = ways.each_ref().map(|own| own.iter().map(Proxy::url).collect::<Vec<_>>().join(","));
        // Each begins at home, since the others are out of reach at first.
        for (home, own) in ways.iter().enumerate() {
            own.iter().enumerate().for_each(|(server, way)| way.refuse(server != home));
        }
        let cluster = Cluster::start_by(urls.each_ref().map(|url| Some(url.as_str())), &[]).await;
        let three = Self { servers, ways, cluster };
        three.both_are("up").await;
        three.ways.iter().flatten().for_each(|way| way.refuse(false));
        three
    }

    async fn both_are(&self, standing: &str) {
        broker_is(&self.cluster.a, standing).await;
        broker_is(&self.cluster.b, standing).await;
    }

    /// A server comes back in the place of one that was killed.
    async fn restart(&mut self, number: usize) {
        let others: Vec<_> =
            self.servers.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, server)| server).collect();
        let back = Nats::join(&others).await;
        self.ways.iter().for_each(|own| own[number].lead_to(&back.url));
        self.servers[number] = back;
    }
}

#[tokio::test]
async fn any_server_may_be_lost_and_come_back() {
    let mut three = Three::start().await;
    let mut witness = Witness::new(&three.cluster).await;
    witness.change().await;
    for number in 0..3 {
        three.servers[number].kill().await;
        witness.change().await;
        three.both_are("up").await;
        witness.change().await;
        three.restart(number).await;
        witness.change().await;
        three.both_are("up").await;
    }
}

#[tokio::test]
async fn any_server_may_freeze() {
    let three = Three::start().await;
    let mut witness = Witness::new(&three.cluster).await;
    for (number, server) in three.servers.iter().enumerate() {
        server.signal("-STOP");
        witness.change().await;
        if number == 0 {
            // Whoever is at home there hears nothing of himself, and goes to another.
            broker_is(&three.cluster.a, "down").await;
            witness.change().await;
            three.both_are("up").await;
        }
        witness.change().await;
        server.signal("-CONT");
        witness.change().await;
    }
}

#[tokio::test]
async fn any_server_may_be_out_of_a_replicas_reach() {
    let three = Three::start().await;
    let mut witness = Witness::new(&three.cluster).await;
    for own in &three.ways {
        for way in own {
            way.swallow(Way::Up, true);
            way.swallow(Way::Down, true);
            witness.change().await;
            three.both_are("up").await;
            witness.change().await;
            way.swallow(Way::Up, false);
            way.swallow(Way::Down, false);
        }
    }
}
