//! Faults between the replicas and their broker, made by proxies on both ways: NATS gone, back, deaf, mute, slow,
//! forgetful. Whatever it is, a change through one replica is enforced at the other in time, and its client is told.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Cluster, Nats, Replica, until};
use crate::proxy::{Fate, Proxy, Way};
use crate::witness::Witness;

/// Two replicas, each with a way of its own to one broker.
pub(crate) struct Wired {
    pub(crate) cluster: Cluster,
    pub(crate) nats: Nats,
    from_a: Proxy,
    pub(crate) from_b: Proxy,
}

impl Wired {
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let nats = Nats::start().await;
        let (from_a, from_b) = (Proxy::to_nats(&nats.url).await, Proxy::to_nats(&nats.url).await);
        let cluster = Cluster::start_by([Some(&from_a.url()), Some(&from_b.url())], settings).await;
        Self { cluster, nats, from_a, from_b }
    }

    fn both(&self) -> [&Proxy; 2] {
        [&self.from_a, &self.from_b]
    }

    /// The broker as both replicas say that it is.
    async fn broker_is(&self, standing: &str) {
        broker_is(&self.cluster.a, standing).await;
        broker_is(&self.cluster.b, standing).await;
    }
}

pub(crate) async fn broker_is(replica: &Replica, standing: &str) {
    until("what is known of the broker", async || {
        let ready = replica.client().get("/readyz").await;
        assert_eq!(ready.status, 200, "a lost broker alone is not unready: {ready:?}");
        assert_eq!((&ready.body["database"], &ready.body["feed"]), (&json!("up"), &json!("up")));
        (ready.body["broker"] == standing).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_is_down_at_the_start_is_found_when_it_comes() {
    let nats = Nats::start().await;
    let (from_a, from_b) = (Proxy::to_nats(&nats.url).await, Proxy::to_nats(&nats.url).await);
    from_a.refuse(true);
    from_b.refuse(true);
    let cluster = Cluster::start_by([Some(&from_a.url()), Some(&from_b.url())], &[]).await;
    let wired = Wired { cluster, nats, from_a, from_b };
    let mut witness = Witness::new(&wired.cluster).await;
    wired.broker_is("down").await;
    witness.change().await;
    wired.both().into_iter().for_each(|way| way.refuse(false));
    wired.broker_is("up").await;
    witness.change().await;
}

#[tokio::test]
async fn a_broker_that_is_restarted_is_found_again() {
    let mut wired = Wired::start(&[]).await;
    let mut witness = Witness::new(&wired.cluster).await;
    wired.broker_is("up").await;
    for _ in 0..2 {
        wired.nats.kill().await;
        witness.change().await;
        wired.broker_is("down").await;
        witness.change().await;
        wired.nats = Nats::start().await;
        wired.both().into_iter().for_each(|way| way.lead_to(&wired.nats.url));
        wired.broker_is("up").await;
        witness.change().await;
    }
}

#[tokio::test]
async fn a_broker_that_one_way_does_not_reach_delays_a_change_by_no_more_than_a_poll() {
    let wired = Wired::start(&[]).await;
    let mut witness = Witness::new(&wired.cluster).await;
    for (way, direction) in
        [(&wired.from_b, Way::Down), (&wired.from_b, Way::Up), (&wired.from_a, Way::Up), (&wired.from_a, Way::Down)]
    {
        way.swallow(direction, true);
        witness.change().await;
        witness.change().await;
        let replica = if std::ptr::eq(way, &raw const wired.from_a) { &wired.cluster.a } else { &wired.cluster.b };
        broker_is(replica, "down").await;
        assert!(way.struck(direction) > 0, "nothing went that way");
        way.swallow(direction, false);
        witness.change().await;
        broker_is(replica, "up").await;
    }
}

#[tokio::test]
async fn a_slow_broker_delays_a_change_by_no_more_than_a_poll() {
    let wired = Wired::start(&[]).await;
    let mut witness = Witness::new(&wired.cluster).await;
    wired.from_b.delay(Way::Down, Duration::from_secs(3));
    witness.change().await;
    witness.change().await;
    wired.from_b.delay(Way::Down, Duration::ZERO);
    wired.from_b.throttle(Way::Down, Some(500));
    wired.from_a.throttle(Way::Up, Some(500));
    for _ in 0..4 {
        witness.change().await;
    }
    for (way, direction) in [(&wired.from_b, Way::Down), (&wired.from_a, Way::Up)] {
        way.throttle(direction, None);
    }
    wired.broker_is("up").await;
    witness.change().await;
}

#[tokio::test]
async fn a_broker_that_comes_and_goes_delays_a_change_by_no_more_than_a_poll() {
    let wired = Wired::start(&[]).await;
    let mut witness = Witness::new(&wired.cluster).await;
    let flapping = async {
        let mut step = tokio::time::interval(Duration::from_millis(120));
        for number in 0_u32.. {
            step.tick().await;
            wired.both().into_iter().for_each(|way| way.refuse(number % 3 == 0));
            wired.both().into_iter().for_each(Proxy::cut);
        }
    };
    let changes = async {
        for _ in 0..12 {
            witness.change().await;
        }
    };
    tokio::select! {
        () = changes => {}
        () = flapping => {}
    }
    wired.both().into_iter().for_each(|way| way.refuse(false));
    wired.broker_is("up").await;
    witness.change().await;
}

#[tokio::test]
async fn a_broker_that_answers_and_loses_messages_delays_a_change_by_no_more_than_a_poll() {
    let wired = Wired::start(&[]).await;
    let mut witness = Witness::new(&wired.cluster).await;
    wired.from_b.rule(Way::Down, |_| Fate::Drop);
    witness.change().await;
    broker_is(&wired.cluster.b, "down").await;
    let mut message = 0;
    wired.from_b.rule(Way::Down, move |_| {
        message += 1;
        if message % 2 == 0 { Fate::Drop } else { Fate::Pass }
    });
    for _ in 0..6 {
        witness.change().await;
    }
    assert!(wired.from_b.struck(Way::Down) > 2);
    wired.from_b.fair(Way::Down);
    wired.broker_is("up").await;
    witness.change().await;
}

#[tokio::test]
async fn a_broker_whose_host_died_without_a_word_is_left() {
    let wired = Wired::start(&[]).await;
    let mut witness = Witness::new(&wired.cluster).await;
    wired.broker_is("up").await;
    wired.both().into_iter().for_each(|way| way.refuse(true));
    wired.both().into_iter().for_each(Proxy::half_open);
    witness.change().await;
    wired.broker_is("down").await;
    wired.both().into_iter().for_each(|way| way.refuse(false));
    wired.broker_is("up").await;
    witness.change().await;
}

#[tokio::test]
async fn a_broker_that_asks_who_one_is_is_told() {
    let nats = Nats::guarded("permcast", "mellon").await;
    let cluster = Cluster::start_with(&[("PERMCAST_NATS_URL", &nats.url)]).await;
    let client = cluster.a.client();
    until("the broker to let us in", async || {
        let ready = client.get("/readyz").await.ok();
        (ready.body["broker"] == "up").then_some(())
    })
    .await;
}
