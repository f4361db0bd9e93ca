//! From a file of SQLite to a server of PostgreSQL, by the real program, under replicas that run.

use crate::client::Client;
use crate::company::company;
use crate::harness::{Cluster, OPERATOR, Replica, operation, until};
use crate::postgres::testing::{Database, database, server};

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
    assert_eq!(psql("SELECT seq FROM counter"), head);
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
async fn a_move_that_fails_leaves_all_as_it_was_and_one_cut_short_at_the_end_is_finished() {
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

    // As if it had been killed between the two commits.
    cluster.sql("UPDATE users SET name = 'Ben' WHERE id = 'ben'");
    cluster.sql(&format!("UPDATE meta SET epoch = 'moved {epoch} postgres://elsewhere'"));
    let (code, said) = moves(&cluster, &database);
    assert_eq!(code, 0, "{said}");
    assert_eq!(psql("SELECT epoch FROM meta"), epoch);
    let replica = on_the_server(&cluster, &database).await;
    replica.client().with(&ben).get("/v1/me").await.ok();

    // Nothing is moved over what is there.
    let other = Cluster::start_by([None, None], SETTINGS).await;
    let (code, said) = moves(&other, &database);
    assert_eq!((code, said.contains("holds something already")), (2, true), "{said}");
    other.a.client().login(OPERATOR).await;
}
