use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use proptest::prelude::*;

use super::*;
use crate::domain::Seq;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn stamp(seq: u64) -> Stamp {
    Stamp::new(1, Seq::new(seq).unwrap())
}

fn notice(seq: u64, reason: Reason, within_ms: u64) -> Notice {
    Notice {
        stamp: stamp(seq),
        reason,
        refresh_within: Duration::from_millis(within_ms),
        at: Timestamp::from_millis(i64::try_from(seq).unwrap()),
    }
}

fn lift(mailbox: &Mailbox, notice: Notice, again: bool) {
    mailbox.put(|pending| pending.lift(notice, again));
}

fn end(mailbox: &Mailbox, effect: Effect) {
    mailbox.put(|pending| pending.end(effect));
}

fn owe(mailbox: &Mailbox, stamp: Stamp) -> Progress {
    let mut progress = Progress::default();
    mailbox.put(|pending| pending.owe(stamp, &mut progress));
    progress
}

fn take(mailbox: &Mailbox) -> Option<Mail> {
    match mailbox.poll_take(Sleeper::Task(Waker::noop())) {
        Poll::Ready(mail) => Some(mail),
        Poll::Pending => None,
    }
}

#[test]
fn a_burst_is_one_notice() {
    let mailbox = Mailbox::default();
    lift(&mailbox, notice(41, Reason::Role, 300), false);
    lift(&mailbox, notice(43, Reason::User, 0), false);
    lift(&mailbox, notice(42, Reason::Role, 200), false);
    let mail = take(&mailbox).unwrap();
    assert_eq!(mail.notice, Some(Notice { reason: Reason::Role, ..notice(43, Reason::User, 0) }));
    assert_eq!(take(&mailbox), None);
}

#[test]
fn what_was_told_is_not_told_again() {
    let mailbox = Mailbox::default();
    lift(&mailbox, notice(42, Reason::Role, 0), false);
    mailbox.told(stamp(42));
    assert_eq!(take(&mailbox), None, "told by comparison at hello while the change came in");
    lift(&mailbox, notice(42, Reason::Role, 0), false);
    lift(&mailbox, notice(41, Reason::Role, 0), false);
    assert_eq!(take(&mailbox), None);
    lift(&mailbox, notice(42, Reason::Tenant, 0), true);
    assert_eq!(take(&mailbox).unwrap().notice.unwrap().reason, Reason::Tenant);
}

#[test]
fn the_task_is_woken_once_for_many_changes() {
    let mailbox = Mailbox::default();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    assert!(mailbox.poll_take(Sleeper::Task(&waker)).is_pending());
    mailbox.lock(Lock::Open { within: Duration::ZERO });
    assert_eq!(count.0.load(Ordering::Relaxed), 0, "it was not locked, so nothing has changed");
    for seq in 1..10 {
        lift(&mailbox, notice(seq, Reason::User, 0), false);
    }
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(mailbox.poll_take(Sleeper::Task(&waker)).is_ready());
    assert!(mailbox.poll_take(Sleeper::Task(&waker)).is_pending());
    end(&mailbox, Effect::Suspended);
    end(&mailbox, Effect::Deleted);
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    assert_eq!(take(&mailbox).unwrap().over, Some(Effect::Suspended), "the first end is the end");
}

#[test]
fn a_receipt_is_open_until_the_token_has_reached_it() {
    let mailbox = Mailbox::default();
    assert_eq!(owe(&mailbox, stamp(42)), Progress::default());
    assert_eq!(owe(&mailbox, stamp(44)), Progress::default());
    assert_eq!(mailbox.told(stamp(43)).notified[..], [stamp(42)]);
    assert_eq!(mailbox.told(stamp(43)).notified[..], []);
    assert_eq!(owe(&mailbox, stamp(41)).notified[..], [stamp(41)], "late, but the client knows of a later one");
    let settled = mailbox.settle(stamp(50));
    assert_eq!(settled.notified[..], [stamp(44)], "it refreshed before it was told, so it need not be told");
    assert_eq!(settled.refreshed[..], [stamp(42), stamp(44), stamp(41)]);
    let late = owe(&mailbox, stamp(45));
    assert_eq!((&late.notified[..], &late.refreshed[..]), (&[stamp(45)][..], &[stamp(45)][..]));
}

#[test]
fn what_a_connection_owes_is_bounded() {
    let mailbox = Mailbox::default();
    for seq in 1..=2 * OWED_MAX as u64 {
        owe(&mailbox, stamp(seq));
    }
    assert_eq!(mailbox.settle(Stamp::NEVER).refreshed.len(), OWED_MAX);
}

proptest! {
    #[test]
    fn merging_is_highest_widest_and_shortest_in_any_order(
        notices in proptest::collection::vec((1..9u64, 0..4usize, 0..5u64), 1..6), told in 0..9u64,
    ) {
        let reasons = [Reason::User, Reason::Role, Reason::Tenant, Reason::Everyone];
        let notices: Vec<Notice> = notices.iter().map(|&(seq, reason, within)| notice(seq, reasons[reason], within)).collect();
        let mailbox = Mailbox::default();
        mailbox.told(stamp(told));
        for &notice in &notices {
            lift(&mailbox, notice, false);
        }
        let later: Vec<&Notice> = notices.iter().filter(|notice| notice.stamp > stamp(told)).collect();
        let expected = later.iter().map(|notice| notice.stamp).max().map(|highest| Notice {
            stamp: highest,
            at: Timestamp::from_millis(i64::try_from(highest.seq().get()).unwrap()),
            reason: later.iter().map(|notice| notice.reason).max().unwrap(),
            refresh_within: later.iter().map(|notice| notice.refresh_within).min().unwrap(),
        });
        prop_assert_eq!(take(&mailbox).and_then(|mail| mail.notice), expected);
    }
}
