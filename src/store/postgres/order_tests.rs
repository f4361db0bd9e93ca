//! The order of `seq` is the order of commits: whoever sees a number sees all below it. Two stores, as of two replicas, and
//! people with a shell write at the same time; readers of the tail watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Executor as _};
use tokio::task::JoinSet;

use super::PostgresStore;
use super::testing::{Database, database};
use crate::domain::{Actor, Change, Epoch, Seq, Unit};
use crate::runtime::{SystemClock, SystemRandom};
use crate::store::contract::words::{add_user, permit};
use crate::store::{CommitListener, Store as _, StoreError, StoreOptions, WriteError};

/// Writers of each store, and writes of each; shells, and transactions of each.
const WRITERS: usize = 100;
const WRITES: usize = 3;
const SHELLS: usize = 10;
const EDITS: usize = 10;
const READERS: usize = 4;

struct Deaf;

impl CommitListener for Deaf {
    fn committed(&self, _: Epoch, _: &[Change]) {}
}

async fn store(database: &Database) -> Arc<PostgresStore> {
    let options = StoreOptions {
        id_rest: Duration::from_mins(1),
        refresh_grace: Duration::from_secs(10),
        deadline: Duration::from_secs(30),
        listener: Arc::new(Deaf),
    };
    let opened = PostgresStore::open(database.url(), 4, options, Arc::new(SystemClock), &SystemRandom).await;
    Arc::new(opened.unwrap())
}

async fn shell(database: &Database) -> PgConnection {
    database.url().parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

fn unit(user: usize, n: usize) -> Unit {
    let (user, permission) = (format!("u{user}"), format!("p{n}"));
    Unit { actor: Actor::System("system"), operations: vec![permit(&user, &permission)] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sees_a_number_sees_all_below_it() {
    let database = Arc::new(database());
    let stores = [store(&database).await, store(&database).await];
    let users = (0..2 * WRITERS).map(|n| add_user(&format!("u{n}"))).collect();
    stores[0].write(Unit { actor: Actor::System("system"), operations: users }).await.unwrap();
    let start = stores[0].tail(Seq::MAX).await.unwrap().head;

    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for n in 0..READERS {
        let (database, done) = (Arc::clone(&database), Arc::clone(&done));
        readers.spawn(async move {
            // Two by the store, two by a connection that knows nothing of it.
            let store = store(&database).await;
            let mut raw = shell(&database).await;
            let mut seen = start;
            loop {
                let last = done.load(Ordering::Acquire);
                let numbers: Vec<i64> = if n % 2 == 0 {
                    let page = store.tail(seen).await.unwrap();
                    page.changes.iter().map(|change| i64::try_from(change.seq.get()).unwrap()).collect()
                } else {
                    let after = i64::try_from(seen.get()).unwrap();
                    let ask = sqlx::query_scalar("SELECT seq FROM changes WHERE seq > $1 ORDER BY seq").bind(after);
                    ask.fetch_all(&mut raw).await.unwrap()
                };
                for number in numbers {
                    assert_eq!(
                        u64::try_from(number).unwrap(),
                        seen.get() + 1,
                        "a number was seen before the one below it"
                    );
                    seen = Seq::new(seen.get() + 1).unwrap();
                }
                if last {
                    return seen;
                }
            }
        });
    }

    let mut writers = JoinSet::new();
    for n in 0..2 * WRITERS {
        let store = Arc::clone(&stores[n % 2]);
        writers.spawn(async move {
            for time in 0..WRITES {
                match store.write(unit(n, time)).await {
                    Ok(written) => assert_eq!(written.changes.len(), 1),
                    // A shell had the row, or the queue was long: said, and not done.
                    Err(WriteError::Store(StoreError::Unavailable { .. })) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        });
    }
    for n in 0..SHELLS {
        let mut shell = shell(&database).await;
        writers.spawn(async move {
            for time in 0..EDITS {
                // Two changes that belong together, of one user of its own, and a pause between them while others commit.
                let first = format!(
                    "BEGIN; INSERT INTO user_permissions (\"user\", permission) SELECT no, 'shell{time}' FROM users WHERE id = 'u{n}'"
                );
                shell.execute(sqlx::AssertSqlSafe(first)).await.unwrap();
                tokio::task::yield_now().await;
                let second = format!(
                    "INSERT INTO user_permissions (\"user\", permission) SELECT no, 'other{time}' FROM users WHERE id = 'u{n}'; COMMIT"
                );
                shell.execute(sqlx::AssertSqlSafe(second)).await.unwrap();
            }
        });
    }
    while let Some(result) = writers.join_next().await {
        result.unwrap();
    }
    done.store(true, Ordering::Release);
    let head = stores[1].tail(Seq::MAX).await.unwrap().head;
    assert!(head.get() - start.get() > u64::try_from(2 * SHELLS * EDITS).unwrap());
    while let Some(seen) = readers.join_next().await {
        assert_eq!(seen.unwrap(), head, "all was seen");
    }
    for store in stores {
        store.close().await;
    }
}

/// Commits, which must fail because others were there meanwhile.
async fn comes_too_late(connection: &mut PgConnection) {
    let late = connection.execute("COMMIT").await.unwrap_err();
    assert_eq!(late.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref(), Some("40001"), "{late}");
}

#[tokio::test]
async fn who_reads_as_of_his_beginning_writes_where_nobody_else_has_since() {
    let database = database();
    let store = store(&database).await;
    let system = |operations| Unit { actor: Actor::System("system"), operations };
    store.write(system(vec![add_user("u0"), permit("u0", "y")])).await.unwrap();
    let head = async || store.tail(Seq::MAX).await.unwrap().head.get();
    let mut connection = shell(&database).await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; DELETE FROM user_permissions WHERE permission = 'y'";
    let before = head().await;
    connection.execute(begin).await.unwrap();
    store.write(system(vec![permit("u0", "x")])).await.unwrap();
    comes_too_late(&mut connection).await;
    assert_eq!(head().await, before + 1);
    connection.execute(begin).await.unwrap();
    connection.execute("COMMIT").await.unwrap();
    assert_eq!(head().await, before + 2);
    // Of what was written since nothing but the head is left, and no row of the trail is in the way.
    let note = "INSERT INTO log VALUES ('keys', NULL, NULL, NULL, 'changed', 'x')";
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    connection.execute(note).await.unwrap();
    let mut other = shell(&database).await;
    for _ in 0..3 {
        other.execute(note).await.unwrap();
    }
    let upto = before + 5;
    let prune = format!(
        "BEGIN; INSERT INTO retention VALUES (1, {upto}); DELETE FROM changes WHERE seq < {upto}; DELETE FROM retention; COMMIT"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(prune)).execute(&mut other).await.unwrap();
    comes_too_late(&mut connection).await;
    assert_eq!(head().await, upto);
}
