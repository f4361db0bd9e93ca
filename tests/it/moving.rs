//! From a file of SQLite to a server of PostgreSQL, by the real program, under replicas that run.

use std::process::Stdio;

use crate::client::Client;
use crate::company::company;
use crate::harness::{Cluster, OPERATOR, Replica, operation, soon, until};
use crate::postgres::operate;
use crate::postgres::testing::{self, Database, database, server};

const SETTINGS: &[(&str, &str)] = &[("PERMCAST_MAX_STALENESS", "300ms"), ("PERMCAST_POLL_INTERVAL", "20ms")];

fn moves(cluster: &Cluster, to: &Database) -> (i32, String) {
    cluster.operate(&["move", "--from", &format!("sqlite://{}", cluster.database().display()), "--to", to.url()])
}

async fn on_the_server(cluster: &Cluster, database: &Database) -> Replica {
    Replica::start("c", &cluster.database(), None, &[("PERMCAST_DATABASE_URL", database.url())]).await
}

#[tokio::test]
async fn what_was_handed_out_before_a_move_is_worth_the_same_after_it() {
    let cluster = Cluster::start_by([None, None], SETTINGS).await;
    let (root, _) = company(&cluster).await;
    let on_a = cluster.a.client();
    let (ben, cleo) = (on_a.login("ben").await, on_a.login("cleo").await);
    // Characters that a copy could get wrong; one who is stale before, and one session that is over.
    cluster.sql("UPDATE users SET name = 'a\tb\\c' || char(10) || 'é', email = 'ben@x.org' WHERE id = 'ben'");
    let changed = root.delete("/v1/tenants/default/users/cleo/roles/viewer").await.version();
    let max = on_a.login("max").await;
    root.delete("/v1/tenants/default/users/max/sessions").await.ok();
    let head = cluster.sql("SELECT MAX(seq) FROM changes").trim().to_owned();
    let last_no = cluster.sql("SELECT last_no FROM meta").trim().to_owned();

    let database = database();
    let (code, said) = moves(&cluster, &database);
    assert_eq!(code, 0, "{said}");
    let psql = |sql: &str| server().psql(database.name(), sql).trim().to_owned();
    assert_eq!(psql("SELECT max(seq) FROM changes"), head);
    assert_eq!(psql("SELECT name = E'a\\tb\\\\c\\né' FROM users WHERE id = 'ben'"), "t");
    let silent = "SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
         WHERE c.relkind = 'r' AND NOT t.tgisinternal AND t.tgenabled <> 'A'";
    assert_eq!(psql(silent), "0", "every trigger fires again, always");

    // On the source nobody decides any more, nobody writes, nobody starts.
    for client in [cluster.a.client(), cluster.b.client()] {
        until("a replica on the source to refuse", async || {
            (client.with(&ben).get("/v1/me").await.status == 503).then_some(())
        })
        .await;
        assert_eq!(client.try_refresh(&ben.refresh).await.status, 503);
    }
    let started = operation(&cluster.database(), &["serve"]).output().unwrap();
    let said = String::from_utf8(started.stderr).unwrap();
    assert_eq!(started.status.code(), Some(2), "{said}");
    assert!(said.contains("was moved to postgres://postgres@127.0.0.1"), "{said}");

    let replica = on_the_server(&cluster, &database).await;
    let there: Client = replica.client();
    assert!(there.with(&ben).get("/v1/me").await.ok().body["roles"].to_string().contains("editor"), "fresh as before");
    assert_eq!(there.with(&cleo).get("/v1/me").await.stale(), changed);
    assert_eq!(there.with(&max).get("/v1/me").await.status, 401);
    assert_eq!(there.try_refresh(&max.refresh).await.status, 400);
    let fresh = there.refresh(&cleo).await;
    there.with(&fresh).get("/v1/me").await.ok();
    there.with(&there.refresh(&ben).await).get("/v1/me").await.ok();
    // The log goes on where it was, and numbers where they were.
    let root = there.with(&there.login(OPERATOR).await);
    let next = root.put("/v1/tenants/default/users/cleo/roles/editor").await.version();
    assert_eq!(next.split_once('.').unwrap().1, (head.parse::<u64>().unwrap() + 1).to_string());
    psql("INSERT INTO users (tenant, id) VALUES (1, 'new')");
    assert_eq!(psql("SELECT no FROM users WHERE id = 'new'"), (last_no.parse::<u64>().unwrap() + 1).to_string());

    let (code, said) = moves(&cluster, &database);
    assert_eq!((code, said.contains("moved before")), (0, true), "{said}");
}

#[tokio::test]
async fn a_move_that_fails_leaves_the_source_in_use_and_goes_on_from_there() {
    let cluster = Cluster::start_by([None, None], SETTINGS).await;
    company(&cluster).await;
    let ben = cluster.a.client().login("ben").await;
    let epoch = cluster.sql("SELECT epoch FROM meta").trim().to_owned();
    // What the server cannot hold stops it, with everything else copied already.
    cluster.sql("UPDATE users SET name = CAST(x'610062' AS TEXT) WHERE id = 'ben'");
    let database = database();
    let (code, said) = moves(&cluster, &database);
    assert_ne!(code, 0, "{said}");
    let psql = |sql: &str| server().psql(database.name(), sql).trim().to_owned();
    assert_eq!(psql("SELECT count(*) FROM users"), "0");
    assert_eq!(cluster.sql("SELECT epoch FROM meta").trim(), epoch);
    cluster.a.client().with(&ben).get("/v1/me").await.ok();
    // Nobody starts on what came, and another's goes elsewhere.
    for arguments in [&["serve"][..], &["migrate"], &["doctor"], &["restore", "--new-epoch"]] {
        let (code, said) = operate(database.url(), arguments);
        assert_eq!((code, said.contains("give the same `permcast move` again")), (2, true), "{said}");
    }
    let other = Cluster::start_by([None, None], SETTINGS).await;
    let (code, said) = moves(&other, &database);
    assert_eq!((code, said.contains("holds part of another database")), (2, true), "{said}");

    // As if it had been killed between the two commits; nobody is led to a third place.
    cluster.sql("UPDATE users SET name = 'Ben' WHERE id = 'ben'");
    cluster.sql(&format!("UPDATE meta SET epoch = 'moved {epoch} {}'", database.url()));
    let (code, said) = moves(&cluster, &testing::database());
    assert_eq!((code, said.contains("was moved to postgres://")), (2, true), "{said}");
    let (code, said) = moves(&cluster, &database);
    assert_eq!((code, said.contains("were there already")), (0, true), "{said}");
    assert_eq!(psql("SELECT epoch FROM meta"), epoch);
    let replica = on_the_server(&cluster, &database).await;
    replica.client().with(&ben).get("/v1/me").await.ok();

    // Nothing is moved over what is there.
    let (code, said) = moves(&other, &database);
    assert_eq!((code, said.contains("holds something already")), (2, true), "{said}");
    other.a.client().login(OPERATOR).await;
}

/// Enough that a move takes a while; a third of them with addresses.
fn crowd(cluster: &Cluster) {
    cluster.sql(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {CROWD}) \
         INSERT INTO users (tenant, id, email) \
         SELECT 1, printf('u%07d', i), CASE WHEN i % 3 = 0 THEN printf('m%d@x.org', i) END FROM n"
    ));
}

const CROWD: u32 = 60_000;
/// A crowd takes a while to be applied.
const PATIENT: &[(&str, &str)] = &[("PERMCAST_MAX_STALENESS", "10s"), ("PERMCAST_POLL_INTERVAL", "20ms")];

/// Begins a move into a database that is migrated, and gives it when this many rows of a table have come.
async fn begun(cluster: &Cluster, database: &Database, table: &str, rows: u32) -> tokio::process::Child {
    let source = format!("sqlite://{}", cluster.database().display());
    let mut command = tokio::process::Command::from(operation(
        &cluster.database(),
        &["move", "--from", &source, "--to", database.url()],
    ));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().unwrap();
    until("rows on the server", async || {
        let there = format!("SELECT count(*) > {rows} FROM {table}");
        (server().psql(database.name(), &there).trim() == "t").then_some(())
    })
    .await;
    child
}

/// Every user, in words that both databases say alike.
const USERS: &str = "SELECT no, tenant, id, COALESCE(email, ''), sign_outs FROM users ORDER BY no";

#[tokio::test]
async fn a_move_that_is_killed_goes_on_and_brings_what_was_changed_meanwhile() {
    let cluster = Cluster::start_by([None, None], PATIENT).await;
    let (root, _) = company(&cluster).await;
    crowd(&cluster);
    let database = database();
    let (code, said) = operate(database.url(), &["migrate"]);
    assert_eq!(code, 0, "{said}");
    let psql = |sql: &str| server().psql(database.name(), sql).trim().to_owned();

    // Each time it comes further; and in between the source is changed, in what has come and in what has not.
    for (round, (table, rows)) in [("audit", 0), ("changes", 20_000), ("users", 30_000)].into_iter().enumerate() {
        let mut child = begun(&cluster, &database, table, rows).await;
        child.kill().await.unwrap();
        let (code, said) = operate(database.url(), &["serve"]);
        assert_eq!((code, said.contains("give the same `permcast move` again")), (2, true), "{said}");
        root.put(&format!("/v1/tenants/default/users/ben/permissions/p{round}")).await.ok();
        // Two addresses change hands, downwards and upwards; one user is gone, and one is new.
        let (lower, upper) = (300 + 3 * round, 21_000 + 3 * round);
        cluster.sql(&format!(
            "UPDATE users SET email = NULL WHERE email IN ('m{lower}@x.org', 'm{upper}@x.org'); \
             UPDATE users SET email = 'm{lower}@x.org' WHERE id = 'u002000{round}'; \
             UPDATE users SET email = 'm{upper}@x.org' WHERE id = 'u000000{round}'; \
             DELETE FROM users WHERE id = 'u000200{round}'; INSERT INTO users (tenant, id) VALUES (1, 'a-new-{round}')"
        ));
    }
    let (users, head) = (cluster.sql(USERS), cluster.sql("SELECT MAX(seq) FROM changes"));
    let (code, said) = moves(&cluster, &database);
    assert_eq!(code, 0, "{said}");
    let before: u64 = said.split("one by one; ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(before >= 40_000, "{said}");
    assert_eq!(psql(USERS), users.trim());
    assert_eq!(psql("SELECT max(seq) FROM changes"), head.trim());
    let replica = on_the_server(&cluster, &database).await;
    let ben = replica.client().with(&replica.client().login("ben").await);
    let me = ben.get("/v1/me").await.ok().body["permissions"].to_string();
    assert!(["p0", "p1", "p2"].iter().all(|permission| me.contains(permission)), "{me}");
}

#[tokio::test]
async fn writes_go_on_while_it_copies_and_who_is_late_writes_nothing_more() {
    let cluster = Cluster::start_by([None, None], PATIENT).await;
    let (root, _) = company(&cluster).await;
    crowd(&cluster);
    let database = database();
    let psql = |sql: &str| server().psql(database.name(), sql).trim().to_owned();
    assert_eq!(operate(database.url(), &["migrate"]).0, 0);
    let late = begun(&cluster, &database, "audit", 0).await;
    let signal = |name: &str| {
        let pid = late.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    // It is stopped between two pieces, where nobody waits for it.
    let idle = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'permcast' AND state <> 'idle'",
        database.name()
    );
    until("the copying to stand still", async || {
        signal("-STOP");
        if psql(&idle) == "0" {
            return Some(());
        }
        signal("-CONT");
        None
    })
    .await;
    root.put("/v1/tenants/default/users/ben/permissions/meanwhile").await.ok();

    let (code, said) = moves(&cluster, &database);
    assert_eq!(code, 0, "{said}");
    let came = psql("SELECT count(*) FROM user_permissions WHERE permission = 'meanwhile'");
    assert_eq!(came, "1");
    let all = psql("SELECT count(*), max(id) FROM audit");
    signal("-CONT");
    let output = soon("the end of the late one", late.wait_with_output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("has taken the target over"), "{said}");
    assert_eq!(psql("SELECT count(*), max(id) FROM audit"), all);
    on_the_server(&cluster, &database).await.client().login("ben").await;
}
