//! Two replicas over PostgreSQL, met as their clients and their operators meet them.

#[path = "../../src/store/postgres/testing.rs"]
pub(crate) mod testing;

use serde_json::json;

use crate::client::{Client, send, seq};
use crate::company::company;
use crate::harness::{Cluster, Nats, OPERATOR, Replica, operation, until};
use crate::socket::Socket;
use testing::{Database, database, server};

const URL: &str = "PERMCAST_DATABASE_URL";

struct World {
    cluster: Cluster,
    database: Database,
}

impl World {
    async fn start(with_broker: bool) -> Self {
        let database = database();
        let nats = if with_broker { Some(Nats::start().await) } else { None };
        let url = nats.as_ref().map(|nats| nats.url.as_str());
        let cluster = Cluster::start_by([url, url], &[(URL, database.url())]).await;
        Self { cluster: Cluster { nats, ..cluster }, database }
    }

    /// What somebody does in `psql`.
    fn psql(&self, sql: &str) -> String {
        server().psql(self.database.name(), sql).trim().to_owned()
    }

    async fn root_at(&self, replica: &Replica) -> Client {
        let client = replica.client();
        client.with(&client.login(OPERATOR).await)
    }
}

/// What docs/deploy.md has the owner say for a user who is given rows and nothing else.
fn rights(owner: &str, app: &str) -> String {
    let page = include_str!("../../docs/deploy.md");
    let said = page.split("```").find(|block| block.contains("ALTER DEFAULT PRIVILEGES")).unwrap();
    said.strip_prefix("sql\n").unwrap().replace("permcast_owner", owner).replace("permcast_app", app)
}

#[tokio::test]
async fn who_may_only_read_and_write_rows_can_serve() {
    let database = database();
    let [owner, app] = ["owner", "app"].map(|role| format!("{role}_of_{}", database.name()));
    let psql = |sql: &str| server().psql(database.name(), sql);
    psql(&format!("CREATE ROLE {owner} LOGIN; CREATE ROLE {app} LOGIN; GRANT CREATE ON SCHEMA public TO {owner}"));
    psql(&rights(&owner, &app));
    let url = |user: &str| database.url().replace("postgres@", &format!("{user}@"));
    let folder = tempfile::tempdir().unwrap();
    let mut migrating = operation(&folder.path().join("none.db"), &["migrate"]);
    let migrated = migrating.env(URL, url(&owner)).output().unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let cluster = Cluster::start_by([None, None], &[(URL, &url(&app))]).await;
    let (root, _) = company(&cluster).await;
    let ben = cluster.a.client().login("ben").await;
    root.delete("/v1/tenants/default/users/ben/roles/editor").await.ok();
    root.delete("/v1/tenants/default/users/ben").await.ok();
    assert_eq!(cluster.a.client().with(&ben).get("/v1/me").await.status, 401);
    let making = server().psql(database.name(), &format!("SELECT has_schema_privilege('{app}', 'public', 'CREATE')"));
    assert_eq!(making.trim(), "f", "it may make nothing");
}

#[tokio::test]
async fn a_change_reaches_the_clients_of_the_other_replica() {
    let world = World::start(true).await;
    let (root, _) = company(&world.cluster).await;
    let on_b = world.cluster.b.client();
    let tokens = on_b.login("ben").await;
    let (mut socket, _) = Socket::welcomed(&on_b, &tokens).await;

    let path = "/v1/tenants/default/users/ben/roles/editor";
    let answer = send(root.request(reqwest::Method::DELETE, path).header("Prefer", "wait=10")).await;
    let version = answer.version();
    assert_eq!(answer.header("preference-applied"), "wait=10", "both replicas have it");
    let told = socket.expect("permissions_changed").await;
    assert_eq!(told["pv"], version);
    let ben = on_b.with(&tokens);
    assert_eq!(ben.get("/v1/me").await.stale(), version);
    let fresh = on_b.refresh(&tokens).await;
    assert!(seq(&fresh.pv) >= seq(&version));
    assert_eq!(on_b.with(&fresh).get("/v1/me").await.ok().body["permissions"], json!([]));

    // The end of a session is one there, too.
    root.delete("/v1/tenants/default/users/ben/sessions").await.ok();
    socket.closes(4403).await;
}

#[tokio::test]
async fn what_is_done_in_psql_arrives_without_a_broker() {
    let world = World::start(false).await;
    let (root, _) = company(&world.cluster).await;
    let on_b = world.cluster.b.client();
    let tokens = on_b.login("ben").await;
    let (mut socket, _) = Socket::welcomed(&on_b, &tokens).await;
    world.psql("BEGIN; DELETE FROM user_roles; UPDATE users SET name = 'Ben' WHERE id = 'ben'; COMMIT");
    let told = socket.expect("permissions_changed").await;
    on_b.with(&tokens).get("/v1/me").await.stale();
    let row = world.psql("SELECT actor || ' ' || summary FROM changes WHERE target = 'ben' ORDER BY seq DESC LIMIT 1");
    assert_eq!(row, "sql role editor taken from user ben");
    assert!(seq(told["pv"].as_str().unwrap()) > 0);
    // Who wrote before goes on to write.
    root.put("/v1/tenants/default/users/ben/roles/viewer").await.ok();
    socket.expect("permissions_changed").await;
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_kill() {
    let mut world = World::start(true).await;
    company(&world.cluster).await;
    let root = world.root_at(&world.cluster.a).await;
    let mut last = 0;
    for n in 0..20 {
        last = seq(&root.put(&format!("/v1/tenants/default/users/ben/permissions/p{n}")).await.version());
    }
    world.cluster.a.signal("-KILL");
    world.cluster.a.exited().await;
    assert_eq!(
        world.psql("SELECT count(*) FROM user_permissions WHERE permission LIKE 'p_' OR permission LIKE 'p1_'"),
        "20"
    );
    assert_eq!(world.psql("SELECT count(*) = max(seq) FROM changes"), "t", "no number is missing");
    assert!(world.psql("SELECT max(seq) FROM changes").parse::<u64>().unwrap() >= last);
    // The other goes on, and the one that was killed comes back to the same.
    let on_b = world.root_at(&world.cluster.b).await;
    let version = on_b.put("/v1/tenants/default/users/ben/permissions/more").await.version();
    let again = Replica::start("a", &world.cluster.database(), None, &[(URL, world.database.url())]).await;
    let ben = again.client().login("ben").await;
    assert!(seq(&ben.pv) >= seq(&version));
}

#[tokio::test]
async fn where_the_server_is_gone_for_a_while_nothing_is_acknowledged_and_all_goes_on_after() {
    let world = World::start(true).await;
    let (root, tokens_of_root) = company(&world.cluster).await;
    let name = world.database.name();
    let on_b = world.cluster.b.client();
    let tokens = on_b.login("ben").await;
    let (mut socket, _) = Socket::welcomed(&on_b, &tokens).await;

    // Each connection is cut; the next one serves.
    let cut = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'");
    server().psql("postgres", &cut);
    root.put("/v1/tenants/default/users/ben/permissions/first").await.ok();
    socket.expect("permissions_changed").await;

    server().psql("postgres", &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
    server().psql("postgres", &cut);
    let refused = root.put("/v1/tenants/default/users/ben/permissions/second").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    until("no decision without the database", async || (root.get("/v1/me").await.status == 503).then_some(())).await;
    server().psql("postgres", &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"));

    let root_at_b = on_b.with(&tokens_of_root);
    for client in [&root, &root_at_b] {
        until("it decides again", async || client.get("/v1/me").await.status.is_success().then_some(())).await;
    }
    assert_eq!(world.psql("SELECT count(*) FROM user_permissions WHERE permission = 'second'"), "0");
    let version = root.put("/v1/tenants/default/users/ben/permissions/third").await.version();
    until("the socket hears of it", async || {
        (socket.expect("permissions_changed").await["pv"] == version.as_str()).then_some(())
    })
    .await;
}

/// Runs a command against an address; gives the exit code and what was said.
pub(crate) fn operate(url: &str, arguments: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = operation(&folder.path().join("none.db"), arguments).env(URL, url).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn what_cannot_be_used_is_said_at_the_start_and_left_as_it_is() {
    let port = server().port;
    let refused = |url: &str, why: &str| {
        for arguments in [&["serve"][..], &["migrate"], &["doctor"]] {
            let (code, said) = operate(url, arguments);
            assert_eq!(code, 2, "{said}");
            assert!(said.contains(why), "{said}");
            assert!(!said.contains("hush"), "{said}");
        }
    };
    refused("postgres://ann:hush@127.0.0.1:1/perms", "is a server running there");
    refused(&format!("postgres://postgres:hush@127.0.0.1:{port}/nowhere"), "create it, or see PERMCAST_DATABASE_URL");
    refused(&format!("postgres://nobody:hush@127.0.0.1:{port}/postgres"), "see the user in PERMCAST_DATABASE_URL");

    let foreign = database();
    server().psql(foreign.name(), "CREATE TABLE users (name text)");
    refused(foreign.url(), "another program's tables");
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(server().psql(foreign.name(), tables).trim(), "1");

    let newer = database();
    let (code, said) = operate(newer.url(), &["migrate"]);
    assert_eq!((code, said.contains("the schema is up to date")), (0, true), "{said}");
    let before = server().psql(newer.name(), tables);
    server().psql(newer.name(), "UPDATE permcast_schema SET taken = 99");
    refused(newer.url(), "a newer permcast");
    assert_eq!(server().psql(newer.name(), tables), before);

    let (code, said) = operate(newer.url(), &["backup", "copy"]);
    assert!(code == 2 && said.contains("pg_dump"), "{said}");
    let (code, said) = operate(newer.url(), &["restore", "copy"]);
    assert!(code == 2 && said.contains("pg_restore"), "{said}");
}

#[tokio::test]
async fn after_a_restore_whatever_was_handed_out_is_stale() {
    let world = World::start(true).await;
    company(&world.cluster).await;
    let (on_a, on_b) = (world.cluster.a.client(), world.cluster.b.client());
    let tokens = on_b.login("ben").await;
    on_b.with(&tokens).get("/v1/me").await.ok();
    let (code, said) = operate(world.database.url(), &["restore", "--new-epoch"]);
    assert!(code == 0 && said.contains("epoch"), "{said}");
    for client in [on_a, on_b] {
        until("his session is over", async || (client.with(&tokens).get("/v1/me").await.status == 401).then_some(()))
            .await;
        client.login("ben").await;
    }
}
