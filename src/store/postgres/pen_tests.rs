//! What became of a commit that was not answered.

use super::*;
use crate::runtime::SystemRandom;
use crate::store::postgres::relay::Relay;
use crate::store::postgres::testing::{Database, database, server};

/// A pen over a database of its own.
struct Bench {
    database: Database,
    pen: ServerPen,
    held: Held,
}

impl Bench {
    fn new() -> Self {
        let database = database();
        let place = Arc::new(Place::new(database.url(), Duration::from_secs(10)).unwrap());
        let mut pen = ServerPen::new(Arc::clone(&place), Arc::default(), &SystemRandom).unwrap();
        pen.runtime.block_on(place.prepare(&SystemRandom)).unwrap();
        let held = pen.connect().unwrap();
        Self { database, pen, held }
    }

    fn begin(&mut self) -> Begun {
        self.pen.begin_once(&mut self.held, "").unwrap()
    }

    fn run(&mut self, statement: &'static str) {
        let ran = query(statement, vec![]).execute(&mut self.held.connection);
        self.pen.wait(async { ran.await.map(drop) }).unwrap();
    }

    fn fate(&self, begun: &Begun) -> Fate {
        self.pen.wait(self.pen.committed(begun)).unwrap()
    }

    fn psql(&self, sql: &str) -> String {
        server().psql(self.database.name(), sql).trim().to_owned()
    }

    /// Ends all its connections, as a server that goes down does.
    fn cut(&self) {
        let name = self.database.name();
        let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        server().psql("postgres", &cut);
    }
}

#[test]
fn a_commit_that_was_not_answered_is_asked_for() {
    let mut bench = Bench::new();
    let undone = bench.begin();
    bench.run("ROLLBACK");
    assert!(matches!(bench.fate(&undone), Fate::Aborted), "it was not done, nor was any before it");
    let done = bench.begin();
    bench.run("COMMIT");
    for _ in 0..2 {
        assert!(matches!(bench.fate(&done), Fate::Committed(_)), "it was done, however often one asks");
    }
    let undone = bench.begin();
    bench.run("ROLLBACK");
    assert!(matches!(bench.fate(&undone), Fate::Aborted), "it was not, though the one before it was");
    // A standby that has taken over has what it has; what it lacks, the former one may have acknowledged.
    let elsewhere = |begun: &Begun| Begun { server: None, ..*begun };
    assert!(matches!(bench.fate(&elsewhere(&done)), Fate::Committed(_)), "it is there");
    assert!(matches!(bench.fate(&elsewhere(&undone)), Fate::Untold), "nobody can tell");
}

#[test]
fn one_that_is_under_way_is_waited_for() {
    let mut bench = Bench::new();
    // Whatever is usual in the database, a statement sees what was committed while it waited.
    let name = bench.database.name().to_owned();
    bench.psql(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"));
    bench.held = bench.pen.connect().unwrap();
    let begun = bench.begin();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let database = bench.database.name().to_owned();
    let committing = async {
        while server().psql(&database, waits).trim() == "0" {
            tokio::task::yield_now().await;
        }
        query("COMMIT", vec![]).execute(&mut bench.held.connection).await.map(drop)
    };
    let both = bench.pen.wait(async { tokio::try_join!(bench.pen.committed(&begun), committing) });
    assert!(matches!(both.unwrap().0, Fate::Committed(_)));
}

#[test]
fn a_commit_whose_connection_dies_before_it_is_not_done() {
    let mut bench = Bench::new();
    let begun = bench.begin();
    bench.cut();
    assert!(bench.pen.end(&mut bench.held, &begun).is_err());
    // And where it was done, but the answer went with the connection, it counts.
    bench.held = bench.pen.connect().unwrap();
    let begun = bench.begin();
    bench.run("COMMIT");
    bench.cut();
    bench.pen.end(&mut bench.held, &begun).unwrap();
}

#[test]
fn what_comes_between_us_and_the_server_does_not_say_what_became_of_a_commit() {
    let mut bench = Bench::new();
    let relay = bench.pen.runtime.block_on(Relay::new());
    let place = Arc::new(Place::new(&relay.url(&bench.database), Duration::from_secs(10)).unwrap());
    bench.held.connection = bench.pen.runtime.block_on(place.connect(true)).unwrap();
    let begun = bench.begin();
    relay.lose_commit();
    bench.pen.end(&mut bench.held, &begun).unwrap();
}

#[test]
fn who_works_is_waited_for_and_who_idles_is_not() {
    let mut bench = Bench::new();
    let begun = bench.begin();
    let place = Place::new(bench.database.url(), Duration::from_millis(200)).unwrap();
    let slow = query("SELECT pg_sleep(1)", vec![]).execute(&mut bench.held.connection);
    bench.pen.runtime.block_on(patiently(&place, begun.process, slow)).unwrap();
    let never = std::future::pending::<Result<(), sqlx::Error>>();
    bench.pen.runtime.block_on(patiently(&place, begun.process, never)).unwrap_err();
}

#[test]
fn what_nobody_can_ask_for_any_more_is_forgotten() {
    let mut bench = Bench::new();
    let week = 7 * 86_400_000_i64;
    bench.psql(&format!(
        "INSERT INTO batches (writer, number, at) VALUES (1, 5, milliseconds() - {week} - 1), \
         (2, 5, milliseconds() - {week} + 600000)"
    ));
    for _ in 0..300 {
        bench.begin();
        bench.run("COMMIT");
    }
    let numbers = |writer: i64| {
        bench.psql(&format!("SELECT count(*), min(number), max(number) FROM batches WHERE writer = {writer}"))
    };
    assert_eq!([numbers(1), numbers(2)], ["0||", "1|5|5"]);
    assert_eq!(numbers(bench.pen.writer), "100|201|300");
}
