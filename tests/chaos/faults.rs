//! What goes wrong. Each fault heals itself before the next of its lane begins; which, when and how long follows the seed.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::history::{Blinds, Fault};
use super::hosts::{self, BALANCER, CLIENTS, DATABASE, Host, Hosts, Link};
use super::process::{Broker, Replica};
use super::proxy::{Fate, Way};
use super::rng::Rng;
use super::world::{BROKERS, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ReplicaKill,
    ReplicaStop,
    ReplicaTerm,
    NatsKill,
    NatsStop,
    NatsOutage,
    /// A replica hears nothing of the broker.
    NatsDeaf,
    /// The broker hears nothing of a replica.
    NatsMute,
    NatsSlow,
    /// Loses some of a replica's messages, doubles and damages others.
    NatsLossy,
    DatabaseLocked,
    DatabaseGone,
    /// A replica's host is out of everybody's reach, and nobody is told: connections stand half open.
    HostCut,
    /// A replica's host reaches its clients, and nothing else.
    HostAlone,
    /// A replica's host hears nothing of the brokers' hosts.
    HostDeaf,
    /// They hear nothing of it.
    HostMute,
    HostSlow,
    HostLossy,
    /// One of the brokers' hosts reaches its clients, but not the other brokers.
    BrokersParted,
    /// The balancer's host freezes.
    BalancerStop,
    /// A replica's host and the database's do not reach each other.
    DatabaseCut,
    /// The database's host freezes.
    DatabaseStop,
}

/// What can go wrong between hosts, and on one.
pub(crate) const AMONG_HOSTS: &[Kind] = &[
    Kind::HostCut,
    Kind::HostAlone,
    Kind::HostDeaf,
    Kind::HostMute,
    Kind::HostSlow,
    Kind::HostLossy,
    Kind::BrokersParted,
    Kind::BalancerStop,
    Kind::DatabaseCut,
    Kind::DatabaseStop,
    Kind::ReplicaKill,
    Kind::ReplicaStop,
    Kind::NatsKill,
    Kind::NatsStop,
];

pub(crate) const ALL: &[Kind] = &[
    Kind::ReplicaKill,
    Kind::ReplicaStop,
    Kind::ReplicaTerm,
    Kind::NatsKill,
    Kind::NatsStop,
    Kind::NatsOutage,
    Kind::NatsDeaf,
    Kind::NatsMute,
    Kind::NatsSlow,
    Kind::NatsLossy,
    Kind::DatabaseLocked,
    Kind::DatabaseGone,
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ReplicaKill => "replica-kill",
            Self::ReplicaStop => "replica-stop",
            Self::ReplicaTerm => "replica-term",
            Self::NatsKill => "nats-kill",
            Self::NatsStop => "nats-stop",
            Self::NatsOutage => "nats-outage",
            Self::NatsDeaf => "nats-deaf",
            Self::NatsMute => "nats-mute",
            Self::NatsSlow => "nats-slow",
            Self::NatsLossy => "nats-lossy",
            Self::DatabaseLocked => "database-locked",
            Self::DatabaseGone => "database-gone",
            Self::HostCut => "host-cut",
            Self::HostAlone => "host-alone",
            Self::HostDeaf => "host-deaf",
            Self::HostMute => "host-mute",
            Self::HostSlow => "host-slow",
            Self::HostLossy => "host-lossy",
            Self::BrokersParted => "brokers-parted",
            Self::BalancerStop => "balancer-stop",
            Self::DatabaseCut => "database-cut",
            Self::DatabaseStop => "database-stop",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        ALL.iter().chain(AMONG_HOSTS).copied().find(|kind| kind.name() == name)
    }
}

/// One fault after another, with calm between them, until it is told to stop. Several lanes make faults that overlap.
pub(crate) async fn lane(world: Arc<World>, kinds: Vec<Kind>, mut rng: Rng, stop: CancellationToken) {
    loop {
        let calm = Duration::from_millis(300 + rng.below(2200));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(calm) => {}
        }
        let kind = kinds[rng.index(kinds.len())];
        let begun = world.now();
        let Some(blinds) = act(&world, kind, &mut rng).await else { continue };
        let fault = Fault { kind: kind.name(), begun, ended: world.now(), blinds };
        world.note(|history| history.faults.push(fault));
    }
}

/// One at random that nobody else is at.
fn free<'a, T>(all: &'a [Mutex<T>], rng: &mut Rng) -> Option<(usize, MutexGuard<'a, T>)> {
    let at = rng.index(all.len());
    all[at].try_lock().ok().map(|guard| (at, guard))
}

/// `None`: what it would act on has another fault at the moment.
async fn act(world: &World, kind: Kind, rng: &mut Rng) -> Option<Blinds> {
    let for_a_while = |rng: &mut Rng, least, most| Duration::from_millis(least + rng.below(most - least));
    match kind {
        Kind::ReplicaKill => {
            let (number, mut replica) = free(&world.replicas, rng)?;
            replica.process.kill().await;
            tokio::time::sleep(for_a_while(rng, 0, 1500)).await;
            restart(world, number, &mut replica).await;
            Some(Blinds::Replica(number))
        }
        Kind::ReplicaTerm => {
            let (number, mut replica) = free(&world.replicas, rng)?;
            replica.process.signal("-TERM");
            match replica.process.ended().await {
                Some(status) if status.success() => {}
                other => {
                    let what = format!("replica {number} was told to end, and ended with {other:?}");
                    world.note(|history| history.unsettled.push(what));
                    replica.process.kill().await;
                }
            }
            restart(world, number, &mut replica).await;
            Some(Blinds::Nobody)
        }
        Kind::ReplicaStop => {
            let (number, replica) = free(&world.replicas, rng)?;
            replica.process.signal("-STOP");
            tokio::time::sleep(for_a_while(rng, 200, 4000)).await;
            replica.process.signal("-CONT");
            Some(Blinds::Replica(number))
        }
        Kind::NatsKill => {
            let (_, mut broker) = free(&world.brokers, rng)?;
            broker.process.kill().await;
            tokio::time::sleep(for_a_while(rng, 0, 3000)).await;
            broker.start().await;
            Some(Blinds::Nobody)
        }
        Kind::NatsStop => {
            let (_, broker) = free(&world.brokers, rng)?;
            broker.process.signal("-STOP");
            tokio::time::sleep(for_a_while(rng, 200, 5000)).await;
            broker.process.signal("-CONT");
            Some(Blinds::Nobody)
        }
        Kind::NatsOutage => {
            let mut brokers: Vec<MutexGuard<'_, Broker>> = Vec::new();
            for broker in &world.brokers {
                brokers.push(broker.try_lock().ok()?);
            }
            for broker in &mut brokers {
                broker.process.kill().await;
            }
            tokio::time::sleep(for_a_while(rng, 500, 5000)).await;
            for broker in &mut brokers {
                broker.start().await;
            }
            Some(Blinds::Nobody)
        }
        Kind::NatsDeaf | Kind::NatsMute => {
            let (_, ways) = free(&world.ways, rng)?;
            let way = if kind == Kind::NatsDeaf { Way::Down } else { Way::Up };
            ways.iter().for_each(|proxy| proxy.swallow(way, true));
            tokio::time::sleep(for_a_while(rng, 500, 6000)).await;
            ways.iter().for_each(|proxy| proxy.swallow(way, false));
            Some(Blinds::Nobody)
        }
        Kind::NatsSlow => {
            let (_, ways) = free(&world.ways, rng)?;
            let delay = for_a_while(rng, 50, 3000);
            ways.iter().for_each(|proxy| proxy.delay(Way::Down, delay));
            tokio::time::sleep(for_a_while(rng, 500, 6000)).await;
            ways.iter().for_each(|proxy| proxy.delay(Way::Down, Duration::ZERO));
            Some(Blinds::Nobody)
        }
        Kind::NatsLossy => {
            let (_, ways) = free(&world.ways, rng)?;
            for way in [Way::Up, Way::Down] {
                for proxy in ways.iter() {
                    let mut dice = Rng(rng.next());
                    proxy.rule(way, move |_| [Fate::Pass, Fate::Drop, Fate::Twice, Fate::Damage][dice.index(4)]);
                }
            }
            tokio::time::sleep(for_a_while(rng, 500, 6000)).await;
            for way in [Way::Up, Way::Down] {
                ways.iter().for_each(|proxy| proxy.fair(way));
            }
            Some(Blinds::Nobody)
        }
        Kind::DatabaseLocked => {
            lock_for(world, for_a_while(rng, 500, 4000)).await?;
            Some(Blinds::Nobody)
        }
        Kind::DatabaseGone => {
            let here = world.database.directory()?;
            let away = here.with_extension("away");
            std::fs::rename(here, &away).ok()?;
            tokio::time::sleep(for_a_while(rng, 200, 4000)).await;
            std::fs::rename(&away, here).expect("it is where it was moved to");
            Some(Blinds::Everybody)
        }
        Kind::HostCut | Kind::HostAlone | Kind::HostDeaf | Kind::HostMute | Kind::HostSlow | Kind::HostLossy => {
            let hosts = world.ground.hosts()?;
            let (number, _replica) = free(&world.replicas, rng)?;
            on_the_links(hosts, kind, Host::of_replica(number), rng).await;
            let is_seen = matches!(kind, Kind::HostDeaf | Kind::HostMute);
            Some(if is_seen { Blinds::Nobody } else { Blinds::Replica(number) })
        }
        Kind::BrokersParted => {
            let hosts = world.ground.hosts()?;
            let (number, _broker) = free(&world.brokers, rng)?;
            let others: Vec<_> = (0..BROKERS).filter(|other| *other != number).map(Host::of_broker).collect();
            let set = |link| {
                for other in &others {
                    hosts.set(Host::of_broker(number), *other, link);
                    hosts.set(*other, Host::of_broker(number), link);
                }
            };
            set(Link::cut());
            tokio::time::sleep(for_a_while(rng, 500, 8000)).await;
            set(hosts.usual(Host::of_broker(0), Host::of_broker(1)));
            Some(Blinds::Nobody)
        }
        Kind::BalancerStop => {
            let balancer = world.balancer.try_lock().ok()?;
            let balancer = balancer.as_ref()?;
            balancer.signal("-STOP");
            tokio::time::sleep(for_a_while(rng, 200, 4000)).await;
            balancer.signal("-CONT");
            Some(Blinds::Everybody)
        }
        Kind::DatabaseCut => {
            let hosts = world.ground.hosts()?;
            let (number, _replica) = free(&world.replicas, rng)?;
            let host = Host::of_replica(number);
            // It hears nothing, or is not heard, or both.
            let (heard, hears) = [(true, false), (false, true), (false, false)][rng.index(3)];
            let usual = hosts.usual(host, DATABASE);
            let link = |whole| if whole { usual } else { Link::cut() };
            hosts.set(host, DATABASE, link(heard));
            hosts.set(DATABASE, host, link(hears));
            tokio::time::sleep(for_a_while(rng, 300, 6000)).await;
            hosts.set(host, DATABASE, usual);
            hosts.set(DATABASE, host, usual);
            Some(Blinds::Replica(number))
        }
        Kind::DatabaseStop => {
            let _all = world.balancer.try_lock().ok()?;
            world.ground.hosts()?;
            hosts::signal(DATABASE, "-STOP");
            tokio::time::sleep(for_a_while(rng, 200, 4000)).await;
            hosts::signal(DATABASE, "-CONT");
            Some(Blinds::Everybody)
        }
    }
}

/// A host's links are spoiled for a while.
async fn on_the_links(hosts: &Hosts, kind: Kind, host: Host, rng: &mut Rng) {
    let time = Duration::from_millis(300 + rng.below(4700));
    match kind {
        Kind::HostAlone => {
            for other in Host::all().filter(|other| ![host, CLIENTS, BALANCER].contains(other)) {
                hosts.set(host, other, Link::cut());
                hosts.set(other, host, Link::cut());
            }
        }
        Kind::HostDeaf => (0..BROKERS).for_each(|broker| hosts.set(Host::of_broker(broker), host, Link::cut())),
        Kind::HostMute => (0..BROKERS).for_each(|broker| hosts.set(host, Host::of_broker(broker), Link::cut())),
        Kind::HostSlow => hosts.around(host, Link::of(Duration::from_millis(20 + rng.below(280)))),
        Kind::HostLossy => {
            let loss = [0.01, 0.05, 0.2, 0.4][rng.index(4)];
            hosts.around(host, Link { loss, ..hosts.usual(host, CLIENTS) });
        }
        _ => hosts.around(host, Link::cut()),
    }
    tokio::time::sleep(time).await;
    hosts.mend(host);
    if !matches!(kind, Kind::HostDeaf | Kind::HostMute) {
        // What was lost is sent again after a pause that has grown as long as the loss; until then nobody hears it.
        tokio::time::sleep(time + Duration::from_millis(500)).await;
    }
}

/// Starts it, again and again where it cannot: its database may be away.
async fn restart(world: &World, number: usize, replica: &mut Replica) {
    loop {
        if let Some(base) = replica.start().await {
            return world.moved(number, base);
        }
        replica.process.kill().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A shell holds the writer's lock.
async fn lock_for(world: &World, time: Duration) -> Option<()> {
    let shell = world.database.shell().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut shell = shell.expect("sqlite3 is on the PATH");
    let mut output = BufReader::new(shell.stdout.take().expect("it is piped")).lines();
    let mut input = shell.stdin.take().expect("it is piped");
    input.write_all(b"BEGIN IMMEDIATE; SELECT 'held';\n").await.ok()?;
    let held = tokio::time::timeout(Duration::from_secs(5), output.next_line()).await.ok()?.ok()?;
    if held.is_some() {
        tokio::time::sleep(time).await;
    }
    let _ = shell.kill().await;
    held.map(drop)
}
