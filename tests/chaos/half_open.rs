//! Clients whose host is gone without a word: no reset, no end, nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::distance::{connect, next};
use super::ground::Ground;
use super::history::user_name;
use super::hosts::{CLIENTS, Host, Hosts, Link};
use super::people::{Person, Token};
use super::process::OPERATOR;
use super::world::World;

/// Which replica is asked, and by which the clients are carried.
const HERE: usize = 0;
const THERE: usize = 1;
/// What is written to somebody who vanished is waited for 20 s by the kernel; and it must be seen from afar.
const LET_GO_WITHIN: Duration = Duration::from_secs(26);

/// How many connections the other replicas say they carry.
async fn carried(world: &World, root: &Token) -> u64 {
    let answer = world.ask(HERE, Method::GET, "/v1/replicas", Some(&root.text), None).await.expect("it answers");
    let items = answer.body["items"].as_array().expect("a list");
    items.iter().filter(|item| item["self"] == false).filter_map(|item| item["connections"].as_u64()).sum()
}

async fn until(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(within, asking).await.unwrap_or_else(|_| panic!("{what}: not within {within:?}"));
}

/// A stream of events, welcome.
async fn events(world: &World, token: &Token) -> TcpStream {
    let address = world.base(THERE).replace("http://", "");
    let mut stream = TcpStream::connect(&address).await.expect("it is there");
    let ask = format!("GET /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n", token.text);
    stream.write_all(ask.as_bytes()).await.expect("it is there");
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("event: welcome") {
        assert!(stream.read_buf(&mut said).await.expect("it is there") > 0, "welcome was to come");
    }
    stream
}

/// Two WebSockets and a stream of events vanish; one of another user on another way stays and is served.
pub(crate) async fn who_vanishes_is_let_go() {
    let hosts = Arc::new(Hosts::build(1, Duration::ZERO));
    let world = World::start(1, Ground::Hosts(Arc::clone(&hosts))).await;
    world.come_to_rest().await;
    let (root, ben) = (Person::new(OPERATOR), Person::new(user_name(0)));
    let root = root.token(&world, HERE).await.expect("he may sign in");
    let token = ben.token(&world, THERE).await.expect("he may sign in");
    let gone =
        (connect(&world, THERE, &token).await, connect(&world, THERE, &token).await, events(&world, &token).await);
    let mut stays = connect(&world, HERE, &ben.token(&world, HERE).await.expect("he may sign in")).await;
    until("all are counted", Duration::from_secs(10), async || carried(&world, &root).await == 3).await;

    let link = |link: Link| {
        hosts.set(CLIENTS, Host::of_replica(THERE), link);
        hosts.set(Host::of_replica(THERE), CLIENTS, link);
    };
    link(Link::cut());
    let since = Instant::now();
    let path = format!("/v1/tenants/default/users/{}/permissions/half:open", ben.name);
    let changed = world.ask(HERE, Method::PUT, &path, Some(&root.text), None).await.expect("it answers");
    assert_eq!(changed.status, 200);
    next(&mut stays, "permissions_changed").await;
    assert_eq!(carried(&world, &root).await, 3, "a moment of silence means nothing");
    until("they are let go", LET_GO_WITHIN, async || carried(&world, &root).await == 0).await;
    println!("let go after {:?}", since.elapsed());
    drop(gone);
    link(Link::of(Duration::ZERO));
    drop(stays);
    world.end().await;
}
