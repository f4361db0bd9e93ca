//! The log begins anew where it was taken back, and nowhere else.

use crate::domain::records::ReplicaRecord;
use crate::domain::{Change, Epoch, Seq, Target, Timestamp};
use crate::store::SEAL_SECRET;

use super::bench::Bench;
use super::company::company;
use super::words::permit;

fn anew() -> Epoch {
    "newepoch".parse().unwrap()
}

async fn head(bench: &Bench) -> (Epoch, Change) {
    let before = Seq::new(bench.head().await.get() - 1).unwrap();
    let page = bench.store.tail(before).await.unwrap();
    (page.epoch, page.changes[0].clone())
}

pub(crate) async fn a_log_that_lacks_what_was_seen_begins_anew(bench: Bench) {
    company(&bench).await;
    let session = bench.session("ben").await;
    bench.store.ensure_secret(SEAL_SECRET, vec![1]).await.unwrap();
    let replica = ReplicaRecord {
        id: "a".to_owned(),
        started_at: bench.now(),
        seen_at: bench.now(),
        applied: Seq::new(9).unwrap(),
        connections: 0,
    };
    bench.store.renew_replica(&replica).await.unwrap();
    let (epoch, last) = head(&bench).await;
    let lost = Change { seq: last.seq.next().next(), ..last.clone() };
    let told = bench.told().len();
    assert!(bench.store.begin_anew(epoch, Some(&lost), anew()).await.unwrap());

    let page = bench.store.tail(last.seq).await.unwrap();
    assert_eq!((page.epoch, page.head, page.known), (anew(), last.seq.next(), vec![last]));
    assert_eq!(page.changes.iter().map(|row| row.target.clone()).collect::<Vec<_>>(), [Target::Everyone]);
    assert!(page.changes[0].effect.ends_sessions());
    assert!(!bench.is_live(&session).await);
    assert_eq!(bench.store.ensure_secret(SEAL_SECRET, vec![2]).await.unwrap(), [2]);
    let running = bench.store.replicas(std::time::Duration::from_secs(1)).await.unwrap();
    assert_eq!((running.len(), running[0].applied), (1, Seq::ZERO), "of the new epoch nobody has applied anything");
    // The tail shows it to whoever drew it, as to everybody else.
    assert_eq!(bench.told().len(), told);
    let written = bench.does([permit("ben", "b")]).await;
    assert_eq!(written.version.epoch, anew());
    // Another replica that saw the same comes too late.
    assert!(!bench.store.begin_anew(epoch, Some(&lost), "another1".parse().unwrap()).await.unwrap());
    assert_eq!(head(&bench).await.0, anew());
}

pub(crate) async fn so_does_one_that_says_something_else_in_its_place(bench: Bench) {
    company(&bench).await;
    let (epoch, last) = head(&bench).await;
    bench.does([permit("ben", "b")]).await;
    let other = Change { at: Timestamp::from_millis(1), ..last };
    assert!(bench.store.begin_anew(epoch, Some(&other), anew()).await.unwrap());
}

pub(crate) async fn a_log_that_has_all_that_was_seen_goes_on(bench: Bench) {
    company(&bench).await;
    let session = bench.session("ben").await;
    let (epoch, last) = head(&bench).await;
    assert!(!bench.store.begin_anew(epoch, Some(&last), anew()).await.unwrap());
    bench.does([permit("ben", "b")]).await;
    assert!(!bench.store.begin_anew(epoch, Some(&last), anew()).await.unwrap());
    let lost = Change { seq: last.seq.next().next(), ..last };
    assert!(!bench.store.begin_anew("another1".parse().unwrap(), Some(&lost), anew()).await.unwrap());
    assert_eq!(head(&bench).await.0, epoch);
    assert!(bench.is_live(&session).await);
}

pub(crate) async fn an_epoch_that_was_over_ends_again(bench: Bench) {
    company(&bench).await;
    let session = bench.session("ben").await;
    let (epoch, _) = head(&bench).await;
    assert!(!bench.store.begin_anew("another1".parse().unwrap(), None, anew()).await.unwrap());
    assert!(bench.store.begin_anew(epoch, None, anew()).await.unwrap());
    assert_eq!(head(&bench).await.0, anew());
    assert!(!bench.is_live(&session).await);
}
