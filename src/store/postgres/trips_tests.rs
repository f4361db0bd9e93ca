//! How often a write and a look at the log go to the server and back: on a way of a millisecond, that is what they take.

use std::sync::Arc;

use super::PostgresStore;
use super::relay::Relay;
use super::testing::database;
use crate::domain::{Actor, Operation, Origin, Seq, Unit};
use crate::store::Rotation;
use crate::store::contract::bench::{Bench, GRACE, Made, Parts, digest};
use crate::store::contract::words::{add_user, forbid, permit};

async fn make(relay: &Relay, parts: Parts) -> Made {
    let database = database();
    let store =
        PostgresStore::open(&relay.url(&database), 2, parts.options, parts.clock, &*parts.random).await.unwrap();
    (Arc::new(store), Box::new(database))
}

#[tokio::test]
async fn a_write_is_four_trips_and_two_more_for_each_operation() {
    let relay = Relay::new().await;
    let bench = Bench::new(async |parts| make(&relay, parts).await).await;
    bench.does([add_user("ada"), add_user("ben"), permit("ada", "permcast:admin")]).await;
    let ada = bench.actor("default", "ada").await;
    let of = async |operations: Vec<Operation>, actor: Actor| {
        let before = relay.trips();
        bench.store.write(Unit { actor, operations }).await.unwrap();
        relay.trips() - before
    };
    let names: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
    let ten = |operation: fn(&str, &str) -> Operation| names.iter().map(|name| operation("ben", name)).collect();
    let mut counted = Vec::new();
    // The first time each statement is prepared, too.
    for _ in 0..2 {
        counted = vec![
            of(vec![permit("ben", "x")], ada.clone()).await,
            of(vec![forbid("ben", "x")], ada.clone()).await,
            of(ten(permit), ada.clone()).await,
            of(ten(forbid), ada.clone()).await,
        ];
    }
    // That several are one whole takes two: a savepoint, and its release.
    assert_eq!(counted, [4, 4, 2 + 2 + 20, 2 + 2 + 20]);
    // A refresh, too.
    let session = bench.session("ben").await;
    for (presented, trips) in [(1, None), (2, Some(4))] {
        bench.pass(GRACE);
        let before = relay.trips();
        let rotated =
            bench.store.rotate(&session, &digest(presented), &digest(presented + 1), &Origin::default()).await;
        assert!(matches!(rotated, Ok(Rotation::Rotated(_))), "{rotated:?}");
        assert!(trips.is_none_or(|trips| trips == relay.trips() - before), "{}", relay.trips() - before);
    }
    let head = bench.store.tail(Seq::MAX).await.unwrap().head;
    let before = relay.trips();
    bench.store.tail(head).await.unwrap();
    assert_eq!(relay.trips() - before, 1, "a look at the log");
}
