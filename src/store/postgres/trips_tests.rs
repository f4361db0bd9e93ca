//! How often a write and a look at the log go to the server and back: on a way of a millisecond, that is what they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::PostgresStore;
use super::testing::{database, server};
use crate::domain::{Actor, Operation, Seq, Unit};
use crate::store::contract::bench::{Bench, Made, Parts};
use crate::store::contract::words::{add_user, forbid, permit};

/// Leads connections to the server, and counts how often it has said that it is ready for the next thing: once a trip.
async fn counted(trips: Arc<AtomicU64>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", server().port)).await.unwrap();
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((mut near_in, near_out), (far_in, mut far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(async move { copy(&mut near_in, &mut far_out).await.map(drop) });
            tokio::spawn(answers(far_in, near_out, Arc::clone(&trips)));
        }
    });
    port
}

/// Passes on what the server says: messages of a letter, a length that counts itself, and the rest.
async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, trips: Arc<AtomicU64>) -> std::io::Result<()> {
    const READY_FOR_QUERY: u8 = b'Z';
    loop {
        let letter = from.read_u8().await?;
        let length = from.read_u32().await?;
        let mut rest = vec![0; length as usize - 4];
        from.read_exact(&mut rest).await?;
        if letter == READY_FOR_QUERY {
            trips.fetch_add(1, Ordering::Relaxed);
        }
        to.write_all(&[&[letter][..], &length.to_be_bytes(), &rest].concat()).await?;
    }
}

async fn make(port: u16, parts: Parts) -> Made {
    let database = database();
    let url = format!("postgres://postgres@127.0.0.1:{port}/{}?sslmode=disable", database.name());
    let store = PostgresStore::open(&url, 2, parts.options, parts.clock, &*parts.random).await.unwrap();
    (Arc::new(store), Box::new(database))
}

#[tokio::test]
async fn a_write_is_four_trips_and_two_more_for_each_operation() {
    let trips = Arc::new(AtomicU64::new(0));
    let port = counted(Arc::clone(&trips)).await;
    let bench = Bench::new(async |parts| make(port, parts).await).await;
    bench.does([add_user("ada"), add_user("ben"), permit("ada", "permcast:admin")]).await;
    let ada = bench.actor("default", "ada").await;
    let of = async |operations: Vec<Operation>, actor: Actor| {
        let before = trips.load(Ordering::Relaxed);
        bench.store.write(Unit { actor, operations }).await.unwrap();
        trips.load(Ordering::Relaxed) - before
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
    let head = bench.store.tail(Seq::MAX).await.unwrap().head;
    let before = trips.load(Ordering::Relaxed);
    bench.store.tail(head).await.unwrap();
    assert_eq!(trips.load(Ordering::Relaxed) - before, 1, "a look at the log");
}
