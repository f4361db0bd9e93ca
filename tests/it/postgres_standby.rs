//! Two replicas that load from a standby of PostgreSQL: what it says is believed where it is as good, and nothing hangs on it.

use serde_json::json;

use crate::client::Client;
use crate::company::company;
use crate::harness::{Cluster, Nats, PASSWORD, Replica, until};
use crate::postgres_own::{Own, Stop};

const DATABASE: &str = "permcast";

struct World {
    server: Own,
    standby: Own,
    cluster: Cluster,
    root: Client,
    users: u32,
}

impl World {
    async fn start() -> Self {
        let server = Own::start(&[]).await;
        server.psql("postgres", &format!("CREATE DATABASE {DATABASE}"));
        let standby = server.standby(&[]).await;
        let (primary, second) = (server.url(DATABASE), standby.url(DATABASE));
        let settings = [
            ("PERMCAST_DATABASE_URL", primary.as_str()),
            ("PERMCAST_DATABASE_READ_URL", second.as_str()),
            ("PERMCAST_POLL_INTERVAL", "20ms"),
        ];
        let nats = Nats::start().await;
        let broker = Some(nats.url.as_str());
        let cluster = Cluster::start_by([broker, broker], &settings).await;
        let cluster = Cluster { nats: Some(nats), ..cluster };
        let (root, _) = company(&cluster).await;
        Self { server, standby, cluster, root, users: 0 }
    }

    /// Somebody whom no replica has asked for yet, with a permission.
    async fn newcomer(&mut self) -> String {
        self.users += 1;
        let id = format!("new{}", self.users);
        self.root.post("/v1/tenants/default/users", json!({"id": id, "password": PASSWORD})).await.ok();
        self.root.put(&format!("/v1/tenants/default/users/{id}/permissions/doors:open")).await.ok();
        id
    }

    async fn shut(&self, id: &str) {
        self.root.delete(&format!("/v1/tenants/default/users/{id}/permissions/doors:open")).await.ok();
    }

    /// Whether a replica that has to load him says that he may; each is asked about what is applied on it.
    async fn may(&self, replica: &Replica, id: &str) -> bool {
        let client = replica.client();
        let tokens = client.login(id).await;
        client.with(&tokens).get("/v1/me").await.ok().body["permissions"].to_string().contains("doors:open")
    }

    /// How many loads of both replicas have ended so.
    async fn count(&self, outcome: &str) -> u64 {
        let mut all = 0;
        for replica in [&self.cluster.a, &self.cluster.b] {
            let text = replica.client().get("/metrics").await.ok().body.as_str().unwrap().to_owned();
            let series = format!("permcast_standby_loads_total{{outcome=\"{outcome}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&series)).expect("it is there from the start");
            all += line.parse::<u64>().unwrap();
        }
        all
    }

    /// The standby is used again, or for the first time.
    async fn is_used(&mut self) {
        let before = self.count("used").await;
        until("a load from the standby", async || {
            let id = self.newcomer().await;
            self.server.followed().await;
            assert!(self.may(&self.cluster.b, &id).await);
            (self.count("used").await > before).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_behind_allows_nothing_that_was_taken() {
    let mut world = World::start().await;
    world.is_used().await;
    let users = [world.newcomer().await, world.newcomer().await, world.newcomer().await];
    world.server.followed().await;
    world.standby.psql(DATABASE, "SELECT pg_wal_replay_pause()");
    until("it stands still", async || {
        (world.standby.psql(DATABASE, "SELECT pg_get_wal_replay_pause_state()") == "paused").then_some(())
    })
    .await;
    for id in &users {
        world.shut(id).await;
        for replica in [&world.cluster.a, &world.cluster.b] {
            assert!(!world.may(replica, id).await, "{id}");
        }
    }
    assert_ne!(world.count("behind").await, 0);
    // Whoever has come since is found.
    let late = world.newcomer().await;
    assert!(world.may(&world.cluster.b, &late).await);
    assert_ne!(world.count("absent").await, 0);
    world.standby.psql(DATABASE, "SELECT pg_wal_replay_resume()");
    world.is_used().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_goes_its_own_way_is_not_believed_and_one_that_is_gone_costs_nothing() {
    let mut world = World::start().await;
    world.is_used().await;
    world.standby.stop(Stop::Fast);
    let id = world.newcomer().await;
    assert!(world.may(&world.cluster.a, &id).await && world.may(&world.cluster.b, &id).await);
    assert_ne!(world.count("failed").await, 0);
    world.standby.resume().await;
    world.is_used().await;

    // Somebody promotes it by mistake, and both logs go on with the same number: there ben may more, here less.
    let id = world.newcomer().await;
    world.server.followed().await;
    world.standby.promote();
    world.standby.psql(DATABASE, "INSERT INTO user_permissions SELECT no, 'astray', NULL FROM users WHERE id = 'ben'");
    world.shut(&id).await;
    let head = |own: &Own| own.psql(DATABASE, "SELECT max(seq) FROM changes");
    assert_eq!(head(&world.standby), head(&world.server));
    let used = world.count("used").await;
    for replica in [&world.cluster.a, &world.cluster.b] {
        assert!(!world.may(replica, &id).await);
        let ben = replica.client().with(&replica.client().login("ben").await);
        let permissions = ben.get("/v1/me").await.ok().body["permissions"].to_string();
        assert!(!permissions.contains("astray"), "{permissions}");
    }
    assert_eq!(world.count("used").await, used);
}
