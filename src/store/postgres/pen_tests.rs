//! What became of a commit that was not answered.

use super::*;
use crate::runtime::SystemRandom;
use crate::store::postgres::testing::{database, server};

#[test]
fn a_commit_that_was_not_answered_is_asked_for() {
    let database = database();
    let place = Arc::new(Place::new(database.url(), Duration::from_secs(10)).unwrap());
    let mut pen = ServerPen::new(Arc::clone(&place), Arc::default()).unwrap();
    pen.runtime.block_on(place.prepare(&SystemRandom)).unwrap();
    let mut held = pen.connect().unwrap();
    let mut begun = |pen: &ServerPen, end: &'static str| {
        let begun = pen.begin_once(&mut held, BEGIN).unwrap();
        pen.wait(async { query(end, vec![]).execute(&mut held.connection).await.map(drop) }).unwrap();
        begun
    };
    let done = begun(&pen, "COMMIT");
    assert!(matches!(pen.wait(pen.committed(&done)).unwrap(), Fate::Committed(_)), "it was done");
    let undone = begun(&pen, "ROLLBACK");
    assert!(matches!(pen.wait(pen.committed(&undone)).unwrap(), Fate::Aborted), "it was not");
    // Another history has the same number for another transaction.
    let elsewhere = Begun { server: None, ..done };
    assert!(matches!(pen.wait(pen.committed(&elsewhere)).unwrap(), Fate::Untold), "nobody can tell");
}

#[test]
fn a_commit_whose_connection_dies_before_it_is_not_done() {
    let database = database();
    let place = Arc::new(Place::new(database.url(), Duration::from_secs(10)).unwrap());
    let mut pen = ServerPen::new(Arc::clone(&place), Arc::default()).unwrap();
    pen.runtime.block_on(place.prepare(&SystemRandom)).unwrap();
    let mut held = pen.connect().unwrap();
    let begun = pen.begin_once(&mut held, BEGIN).unwrap();
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", database.name());
    server().psql("postgres", &cut);
    assert!(pen.end(&mut held, &begun).is_err());
    // And where it was done, but the answer went with the connection, it counts.
    let mut held = pen.connect().unwrap();
    let begun = pen.begin_once(&mut held, BEGIN).unwrap();
    pen.wait(async { query("COMMIT", vec![]).execute(&mut held.connection).await.map(drop) }).unwrap();
    server().psql("postgres", &cut);
    pen.end(&mut held, &begun).unwrap();
}
