//! A PostgreSQL server whose disk is full, under two replicas.

use crate::harness::until;
use crate::postgres_faults::{DATABASE, World, Writer, all_are_there};
use crate::postgres_own::{Own, Stop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_for_rows_writes_are_refused_and_decisions_go_on() {
    let Some(server) = Own::start_on_disk().await else { return };
    let world = World::over(server, "postgres").await;
    let max = world.cluster.b.client().login("max").await;
    let on_b = world.cluster.b.client().with(&max);
    world.server.disk().fill();
    // Pages that are there have room for some; one that is refused was not done, whatever comes after it.
    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    for n in 0.. {
        let permission = format!("p{n}");
        match world.give(&permission).await {
            200 => acknowledged.push(permission),
            503 => refused.push(permission),
            other => panic!("{permission}: {other}"),
        }
        assert_eq!(on_b.get("/v1/me").await.status, 200, "{refused:?}");
        if refused.len() == 20 {
            break;
        }
        assert!(n < 2000, "it is never full");
    }
    world.server.disk().clear();
    world.writes().await;
    world.all_decide(&max).await;
    all_are_there(&world.server, &acknowledged);
    let given = world.server.psql(DATABASE, "SELECT permission FROM user_permissions");
    let done: Vec<_> = refused.iter().filter(|one| given.lines().any(|there| there == one.as_str())).collect();
    assert!(done.is_empty(), "refused and done: {done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_fails_for_want_of_room_for_its_log_has_all_when_it_is_back() {
    let Some(server) = Own::start_with_log_on_disk().await else { return };
    let mut world = World::over(server, "postgres").await;
    let max = world.cluster.b.client().login("max").await;
    let writer = Writer::start(&world.root);
    world.server.disk().fill();
    // It cannot go on without its log: it ends, or begins again and again. It has files for it that it made before.
    until("a write is not done", async || {
        let _ = world.server.try_psql("postgres", "SELECT pg_switch_wal()");
        (world.give("more").await != 200).then_some(())
    })
    .await;
    world.server.stop(Stop::Immediate);
    world.server.disk().clear();
    world.server.resume().await;
    world.writes().await;
    world.all_decide(&max).await;
    let acknowledged = writer.end().await;
    all_are_there(&world.server, &acknowledged);
}
