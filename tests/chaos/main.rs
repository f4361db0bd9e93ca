//! The guarantee among real processes: three replicas, one database, a broker's cluster of three; writes, questions and
//! connections without pause while processes are killed and stopped, and the database and the broker go away. Everybody
//! notes what he did and heard; at the end a checker that knows nothing of permcast goes through all of it.
//!
//! `make chaos DURATION=10m SEED=7 FAULTS=nats-kill,replica-stop`; without these, a short run with every fault.
//!
//! The seed fixes who wants what and which faults come when; what comes of it is up to the machine.

#![allow(clippy::unwrap_used)]

mod askers;
mod checker;
#[path = "checker_tests.rs"]
mod checker_tests;
mod commits;
mod database;
mod distance;
mod faults;
#[path = "../it/frames.rs"]
mod frames;
mod ground;
mod guests;
mod half_open;
mod history;
mod hosts;
mod judge;
mod model;
mod people;
#[allow(dead_code, reason = "the server of the other tests is on loopback")]
#[path = "../../src/store/postgres/testing.rs"]
mod postgres;
mod process;
#[allow(dead_code, reason = "not every fault on the wire is of use here")]
#[path = "../it/proxy.rs"]
mod proxy;
mod report;
#[path = "../sim/rng.rs"]
mod rng;
mod watchers;
mod world;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use checker::Bounds;
use distance::Distance;
use faults::Kind;
use ground::Ground;
use hosts::Hosts;
use people::Person;
use rng::Rng;
use world::World;

/// The replicas run with the default bound.
const BOUNDS: Bounds =
    Bounds { staleness: Duration::from_secs(1), told: Duration::from_secs(3), memory: 512 * 1024 * 1024 };
/// In the run that belongs to the tests.
const SHORT: Duration = Duration::from_secs(20);
/// One way, between two hosts.
const USUAL_LINK: Duration = Duration::from_millis(2);
const WRITERS: usize = 5;
const CLIENTS: usize = 10;
/// Faults at once, at the most.
const LANES: usize = 3;
/// After all is well again it must be so to everybody.
const AFTERWARDS: Duration = Duration::from_millis(2500);

/// What to do, from the environment.
struct Plan {
    seed: u64,
    duration: Duration,
    kinds: Vec<Kind>,
    /// How many times slower than usual.
    pace: u32,
    /// Of each direction of a link between hosts.
    delay: Duration,
}

impl Plan {
    fn read(usual: &[Kind]) -> Self {
        let given = |name: &str| std::env::var(format!("PERMCAST_CHAOS_{name}")).ok().filter(|text| !text.is_empty());
        let seed = given("SEED").map_or(1, |text| text.parse().expect("SEED is a number"));
        let duration = given("DURATION").map_or(SHORT, |text| humantime::parse_duration(&text).expect("such as 10m"));
        let named = |name: &str| Kind::named(name).unwrap_or_else(|| panic!("{name} is none of {:?}", faults::ALL));
        let kinds = given("FAULTS").map_or(usual.to_vec(), |text| text.split(',').map(named).collect());
        let pace = given("PACE").map_or(1, |text| text.parse().expect("PACE is a number"));
        let delay = given("LINK").map_or(USUAL_LINK, |text| humantime::parse_duration(&text).expect("such as 5ms"));
        Self { seed, duration, kinds, pace, delay }
    }

    fn again(&self, among_hosts: bool) -> String {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
        let duration = humantime::format_duration(self.duration).to_string().replace(' ', "");
        let hosts = if among_hosts { format!(" HOSTS=1 LINK={:?}", self.delay) } else { String::new() };
        format!(
            "make chaos{hosts} SEED={} DURATION={duration} PACE={} FAULTS={}",
            self.seed,
            self.pace,
            kinds.join(",")
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guarantee_holds_whatever_fails() {
    let plan = Plan::read(faults::ALL);
    prove(&plan, Ground::Loopback).await;
}

/// The same with a host for each process and a network between them, PostgreSQL on one of them, clients that come past a
/// balancer, and faults of links.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guarantee_holds_among_hosts() {
    if Hosts::enter("the_guarantee_holds_among_hosts", &[]) {
        let plan = Plan::read(faults::AMONG_HOSTS);
        let hosts = Hosts::build(plan.seed, plan.delay);
        prove(&plan, Ground::Hosts(Arc::new(hosts))).await;
    }
}

/// `make distance ROUNDS=1000`; without it only that it arrives, and no sooner than the links allow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_crosses_the_links_between_hosts() {
    if Hosts::enter("a_change_crosses_the_links_between_hosts", distance::BY_MESSAGE_ALONE) {
        let given = std::env::var("PERMCAST_CHAOS_ROUNDS").ok().filter(|text| !text.is_empty());
        let rounds = given.as_ref().map_or(5, |text| text.parse().expect("ROUNDS is a number"));
        let delay = Plan::read(&[]).delay;
        let distance = Distance::measure(1, delay, rounds).await;
        println!("{}\n{}", Distance::COLUMNS, distance.shown());
        distance.check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_vanishes_without_a_word_is_let_go() {
    if Hosts::enter("who_vanishes_without_a_word_is_let_go", &[]) {
        half_open::who_vanishes_is_let_go().await;
    }
}

async fn prove(plan: &Plan, ground: Ground) {
    let again = plan.again(ground.hosts().is_some());
    let world = World::start(plan.pace, ground).await;
    println!("{again}");
    let mut dice = Rng(plan.seed);
    let mut die = || Rng(dice.next());

    let (watching, taking_part, changing) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let (mut watchers, mut others, mut faults) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    watchers.spawn(Arc::clone(&world).watch_log(watching.clone()));
    watchers.spawn(Arc::clone(&world).watch_processes(watching.clone()));
    let people: Arc<Vec<_>> = Arc::new((0..world::USERS).map(|user| Person::new(history::user_name(user))).collect());
    for replica in 0..world::REPLICAS {
        others.spawn(askers::checker(Arc::clone(&world), replica, die(), taking_part.clone()));
        others.spawn(askers::bearers(Arc::clone(&world), Arc::clone(&people), replica, die(), taking_part.clone()));
    }
    for _ in 0..CLIENTS {
        others.spawn(watchers::client(Arc::clone(&world), die(), taking_part.clone()));
    }
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        writers.spawn(writers::administrator(Arc::clone(&world), die(), changing.clone()));
    }
    for number in 0..guests::GUESTS {
        writers.spawn(guests::host(Arc::clone(&world), number, die(), changing.clone()));
    }
    writers.spawn(writers::shell(Arc::clone(&world), die(), changing.clone()));
    // A few kinds have a lane each; of many, two may overlap.
    let lanes = if plan.kinds.len() > LANES { 2 } else { plan.kinds.len() };
    for first in 0..lanes {
        let kinds = plan.kinds.iter().skip(first).step_by(lanes).copied().collect();
        faults.spawn(faults::lane(Arc::clone(&world), kinds, die(), changing.clone()));
    }

    tokio::time::sleep(plan.duration).await;
    changing.cancel();
    while let Some(ended) = faults.join_next().await {
        ended.unwrap();
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    world.come_to_rest().await;
    tokio::time::sleep(AFTERWARDS).await;
    taking_part.cancel();
    while let Some(ended) = others.join_next().await {
        ended.unwrap();
    }
    watching.cancel();
    while let Some(ended) = watchers.join_next().await {
        ended.unwrap();
    }
    drop(people);
    let (history, directory) = world.end().await;
    let verdict = checker::check(&history, &BOUNDS);
    println!("{}", report::shown(&history, &verdict, plan.duration, &again));
    if !verdict.violations.is_empty() {
        let kept = directory.keep();
        panic!("the guarantee was broken; the database and the replicas' logs are in {}", kept.display());
    }
}
