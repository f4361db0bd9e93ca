//! A PostgreSQL server that restarts, fails over, takes no writes, has no room or is held, under two replicas.
//!
//! On two threads, for a shell that answers is waited for without giving way to whatever carries bytes meanwhile.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::{Client, Tokens, seq};
use crate::company::company;
use crate::harness::{Cluster, Nats, OPERATOR, soon, until};
use crate::postgres_own::{Own, Stop};
use crate::proxy::Proxy;
use crate::socket::Socket;

const URL: &str = "PERMCAST_DATABASE_URL";
pub(crate) const DATABASE: &str = "permcast";

/// Two replicas over a server, which they reach by a way that can lead elsewhere.
pub(crate) struct World {
    pub(crate) server: Own,
    way: Proxy,
    pub(crate) cluster: Cluster,
    pub(crate) root: Client,
}

impl World {
    async fn start(settings: &[&str]) -> Self {
        Self::over(Own::start(settings).await, "postgres").await
    }

    pub(crate) async fn over(server: Own, user: &str) -> Self {
        server.psql("postgres", &format!("CREATE DATABASE {DATABASE} OWNER {user}"));
        let way = Proxy::to(([127, 0, 0, 1], server.port).into()).await;
        let nats = Nats::start().await;
        let url = format!("postgres://{user}@{}/{DATABASE}", way.address);
        let broker = Some(nats.url.as_str());
        let cluster = Cluster::start_by([broker, broker], &[(URL, &url)]).await;
        let cluster = Cluster { nats: Some(nats), ..cluster };
        let (root, _) = company(&cluster).await;
        Self { server, way, cluster, root }
    }

    pub(crate) fn psql(&self, sql: &str) -> String {
        self.server.psql(DATABASE, sql)
    }

    /// Each replica decides, and so for somebody who came before.
    pub(crate) async fn all_decide(&self, tokens: &Tokens) {
        for replica in [&self.cluster.a, &self.cluster.b] {
            let client = replica.client().with(tokens);
            until("it decides", async || (client.get("/v1/me").await.status == 200).then_some(())).await;
        }
    }

    /// A write succeeds again.
    pub(crate) async fn writes(&self) {
        let path = "/v1/tenants/default/users/ben/permissions/again";
        until("it writes", async || {
            let done = self.root.put(path).await.status.is_success();
            done.then_some(())
        })
        .await;
        self.root.delete(path).await.ok();
    }

    pub(crate) async fn give(&self, permission: &str) -> u16 {
        self.root.put(&format!("/v1/tenants/default/users/ben/permissions/{permission}")).await.status.as_u16()
    }
}

/// One who gives ben a permission after the other; in the end, those whose writes were acknowledged.
pub(crate) struct Writer {
    over: Arc<AtomicBool>,
    writing: tokio::task::JoinHandle<Vec<String>>,
}

impl Writer {
    pub(crate) fn start(root: &Client) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (root, ends) = (root.clone(), Arc::clone(&over));
        let writing = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0.. {
                if ends.load(Ordering::Acquire) {
                    break;
                }
                let answer = root.put(&format!("/v1/tenants/default/users/ben/permissions/p{n}")).await;
                match answer.status.as_u16() {
                    200 | 201 | 204 => acknowledged.push(format!("p{n}")),
                    // Not done; or nobody can say whether it was. While the bound is passed, not even who asks is known.
                    500 | 503 => {}
                    _ => panic!("{answer:?}"),
                }
            }
            acknowledged
        });
        Self { over, writing }
    }

    pub(crate) async fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Release);
        soon("the last write", self.writing).await.unwrap()
    }
}

pub(crate) fn all_are_there(server: &Own, acknowledged: &[String]) {
    let there = server.psql(
        DATABASE,
        "SELECT g.permission FROM user_permissions g JOIN users u ON u.no = g.\"user\" WHERE u.id = 'ben'",
    );
    let there: Vec<&str> = there.lines().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|one| !there.contains(&one.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert_eq!(server.psql(DATABASE, "SELECT count(*) = max(seq) FROM changes"), "t", "a gap in the log");
}

async fn restarts(how: Stop) {
    let mut world = World::start(&[]).await;
    let on_b = world.cluster.b.client();
    let max = on_b.login("max").await;
    let (mut socket, _) = Socket::welcomed(&on_b, &on_b.login("ben").await).await;
    let writer = Writer::start(&world.root);
    until("it has written", async || (world.psql("SELECT max(seq) > 20 FROM changes") == "t").then_some(())).await;
    world.server.stop(how);
    until("nothing is decided without it", async || (on_b.with(&max).get("/v1/me").await.status == 503).then_some(()))
        .await;
    world.server.resume().await;
    world.all_decide(&max).await;
    world.writes().await;
    let acknowledged = writer.end().await;
    all_are_there(&world.server, &acknowledged);
    // Whoever was connected was told of the last, whatever was between.
    let last = world.psql("SELECT max(seq) FROM changes WHERE target = 'ben'").parse::<u64>().unwrap();
    until("ben is told", async || {
        (seq(socket.expect("permissions_changed").await["pv"].as_str().unwrap()) >= last).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_nothing_and_everybody_goes_on_by_himself() {
    restarts(Stop::Fast).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_a_crash() {
    restarts(Stop::Immediate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_a_crash_undid_is_not_taken_for_the_next_one() {
    // Nothing but a commit brings the log to the disk.
    let quiet = ["wal_writer_delay = 10s", "bgwriter_lru_maxpages = 0", "autovacuum = off", "wal_level = minimal"];
    let mut world = World::start(&[&quiet[..], &["max_wal_senders = 0"]].concat()).await;
    // A commit that takes its time.
    world.psql(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END'; \
         CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON user_permissions DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW WHEN (NEW.permission = 'undone') EXECUTE FUNCTION wait()",
    );
    let root = world.root.clone();
    let writing =
        tokio::spawn(async move { root.put("/v1/tenants/default/users/ben/permissions/undone").await.status });
    let committing = "SELECT backend_xid FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'";
    let number = until("it commits", async || world.psql(committing).parse::<u64>().ok()).await;
    world.way.refuse(true);
    world.server.stop(Stop::Immediate);
    world.server.resume().await;
    // The server gives the same number to somebody else.
    let mut given = 0;
    while given < number {
        given = world.psql("SELECT pg_current_xact_id()").parse().unwrap();
    }
    assert_eq!(given, number);
    world.way.refuse(false);
    assert_eq!(soon("the answer", writing).await.unwrap(), 503);
    world.writes().await;
    assert_eq!(world.psql("SELECT count(*) FROM user_permissions WHERE permission = 'undone'"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_no_standby_has_is_not_acknowledged() {
    let world = World::start(&[]).await;
    let mut standby = world.server.standby(&[]).await;
    world.server.set(&["synchronous_standby_names = '*'"]);
    world.server.reload();
    world.writes().await;
    standby.stop(Stop::Fast);
    let root = world.root.clone();
    let writing = tokio::spawn(async move { root.put("/v1/tenants/default/users/ben/permissions/alone").await.status });
    // The server ends the connection that waits, and says nothing of what it was about.
    let end =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'";
    until("its wait is cut off", async || (world.psql(end) == "t").then_some(())).await;
    assert_eq!(soon("the answer", writing).await.unwrap(), 500, "it may yet turn out to be lost");
    standby.resume().await;
    world.writes().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_has_all_takes_over_within_the_epoch() {
    let mut world = World::start(&[]).await;
    let mut standby = world.server.standby(&[]).await;
    // From here on what is acknowledged is on both.
    world.server.set(&["synchronous_standby_names = '*'", "synchronous_commit = remote_apply"]);
    world.server.reload();
    let max = world.cluster.b.client().login("max").await;
    let writer = Writer::start(&world.root);
    let before = world.psql("SELECT max(seq) FROM changes").parse::<u64>().unwrap();
    until("it has written", async || {
        (world.psql("SELECT max(seq) FROM changes").parse::<u64>().unwrap() > before + 20).then_some(())
    })
    .await;
    world.server.stop(Stop::Immediate);
    standby.promote();
    world.way.lead_to(&standby.address());
    world.way.cut();
    std::mem::swap(&mut world.server, &mut standby);
    world.all_decide(&max).await;
    world.writes().await;
    let acknowledged = writer.end().await;
    all_are_there(&world.server, &acknowledged);
    let fresh = world.cluster.a.client().login("max").await;
    assert_eq!(epoch(&fresh.pv), epoch(&max.pv), "nothing that anybody saw is gone");

    // Who has been taken over from comes back, and is believed no more.
    standby.resume().await;
    world.way.lead_to(&standby.address());
    world.way.cut();
    until("nothing is written there", async || (world.give("astray").await == 503).then_some(())).await;
    assert_eq!(standby.psql(DATABASE, "SELECT count(*) FROM user_permissions WHERE permission = 'astray'"), "0");
    world.way.lead_to(&world.server.address());
    world.way.cut();
    world.all_decide(&max).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_host_that_died_without_a_word_are_let_go_when_another_takes_over() {
    let mut world = World::start(&[]).await;
    let standby = world.server.standby(&[]).await;
    let max = world.cluster.b.client().login("max").await;
    world.server.followed().await;
    // Each connection of each pool is open, and is asked again as soon as somebody signs in.
    for replica in [&world.cluster.a, &world.cluster.b] {
        let client = replica.client();
        futures_util::future::join_all((0..8).map(|_| client.login("max"))).await;
    }
    world.server.followed().await;
    world.way.half_open();
    world.way.lead_to(&standby.address());
    world.server.stop(Stop::Immediate);
    standby.promote();
    for replica in [&world.cluster.a, &world.cluster.b] {
        let client = replica.client().with(&max);
        until("the bound is passed", async || (client.get("/v1/me").await.status == 503).then_some(())).await;
    }
    world.all_decide(&max).await;
    for replica in [&world.cluster.a, &world.cluster.b] {
        replica.client().login("ben").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lacks_what_was_acknowledged_begins_another_epoch() {
    let mut world = World::start(&[]).await;
    let mut standby = world.server.standby(&[]).await;
    world.server.followed().await;
    standby.stop(Stop::Fast);
    // Only the primary ever has this.
    let (on_a, on_b) = (world.cluster.a.client(), world.cluster.b.client());
    let before = on_b.login("ben").await;
    let (mut socket, _) = Socket::welcomed(&on_b, &before).await;
    assert_eq!(world.give("lost").await, 200);
    socket.expect("permissions_changed").await;
    world.server.stop(Stop::Immediate);
    standby.resume().await;
    standby.promote();
    world.way.lead_to(&standby.address());
    world.way.cut();
    for client in [&on_a, &on_b] {
        until("what was handed out is refused", async || {
            (client.with(&before).get("/v1/me").await.status == 401).then_some(())
        })
        .await;
    }
    for client in [on_a, on_b] {
        // Until it has looked, a replica goes on in the old one, within the bound.
        let fresh = until("somebody signs in to another epoch", async || {
            let answer = client.sign_in("default", "ben", crate::harness::PASSWORD).await;
            let tokens = (answer.status == 200).then(|| answer.tokens());
            tokens.filter(|fresh| epoch(&fresh.pv) != epoch(&before.pv))
        })
        .await;
        let permissions = client.with(&fresh).get("/v1/me").await.ok().body["permissions"].to_string();
        assert!(!permissions.contains("lost"), "{permissions}");
    }
}

fn epoch(version: &str) -> &str {
    version.split_once('.').unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_only_reads_refuses_writes_and_decisions_go_on() {
    let world = World::start(&[]).await;
    let max = world.cluster.b.client().login("max").await;
    world.server.set(&["default_transaction_read_only = on"]);
    world.server.reload();
    until("a write is refused", async || (world.give("x").await == 503).then_some(())).await;
    for _ in 0..20 {
        assert_eq!(world.cluster.b.client().with(&max).get("/v1/me").await.status, 200);
        assert_eq!(world.give("x").await, 503);
    }
    world.server.set(&["default_transaction_read_only = off"]);
    world.server.reload();
    world.writes().await;
    assert_eq!(world.psql("SELECT count(*) FROM user_permissions WHERE permission = 'x'"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_room_is_waited_for() {
    let server = Own::start(&[]).await;
    server.psql("postgres", "CREATE ROLE app LOGIN");
    let world = World::over(server, "app").await;
    let max = world.cluster.b.client().login("max").await;
    world.psql("ALTER ROLE app CONNECTION LIMIT 0");
    world.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
    until("a write is refused", async || (world.give("x").await == 503).then_some(())).await;
    let on_b = world.cluster.b.client().with(&max);
    until("the bound is passed", async || (on_b.get("/v1/me").await.status == 503).then_some(())).await;
    let (code, said) = {
        let url = format!("postgres://app@127.0.0.1:{}/{DATABASE}", world.server.port);
        let folder = tempfile::tempdir().unwrap();
        let mut doctor = crate::harness::operation(&folder.path().join("none.db"), &["doctor"]);
        let output = doctor.env(URL, url).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("connection"), "{said}");
    world.psql("ALTER ROLE app CONNECTION LIMIT -1");
    world.all_decide(&max).await;
    world.writes().await;
}

/// A shell that holds something until it is dropped.
struct Holding(Child);

impl Holding {
    async fn start(world: &World, sql: &str) -> Self {
        let mut child = world.server.shell(DATABASE).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "BEGIN; {sql};").unwrap();
        let idle = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'psql' \
                    AND state = 'idle in transaction'";
        until("it is held", async || (world.psql(idle) == "t").then_some(())).await;
        Self(child)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_what_a_write_needs_delays_nobody_for_long_and_no_decision() {
    let world = World::start(&[]).await;
    let max = world.cluster.b.client().login("max").await;
    for held in ["SELECT 1 FROM counter FOR UPDATE", "LOCK TABLE user_permissions IN ACCESS EXCLUSIVE MODE"] {
        let holding = Holding::start(&world, held).await;
        let deciding = async {
            for _ in 0..20 {
                assert_eq!(world.cluster.b.client().with(&max).get("/v1/me").await.status, 200, "{held}");
            }
        };
        let (refused, ()) = tokio::join!(soon("the answer", world.give("x")), deciding);
        assert_eq!(refused, 503, "{held}");
        drop(holding);
        world.writes().await;
        assert_eq!(world.psql("SELECT count(*) FROM user_permissions WHERE permission = 'x'"), "0", "{held}");
    }
    world.root.get("/v1/me").await.ok();
    let again = world.cluster.a.client().login(OPERATOR).await;
    assert_eq!(world.cluster.b.client().with(&again).get("/v1/me").await.status, 200);
}
