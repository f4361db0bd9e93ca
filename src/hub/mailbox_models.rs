//! A mailbox under every order of the steps of those who put in and the one who takes out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use loom::thread;

use super::*;
use crate::domain::Seq;
use crate::domain::sync::explore;

fn stamp(seq: u64) -> Stamp {
    Stamp::new(1, Seq::new(seq).unwrap())
}

fn notice(seq: u64) -> Notice {
    Notice { stamp: stamp(seq), reason: Reason::User, refresh_within: Duration::ZERO, at: Timestamp::default() }
}

/// Whether the task was woken. Not part of the model: it is looked at only when all who put in are done.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn lift(mailbox: &Mailbox, notice: Notice, again: bool) {
    mailbox.put(|pending| pending.lift(notice, again));
}

fn end(mailbox: &Mailbox, effect: Effect) {
    mailbox.put(|pending| pending.end(effect));
}

type Take = fn(&Mailbox, Sleeper<'_>) -> Poll<Mail>;

/// A task that sleeps when there is nothing, beside those who put in: the mail that it took, in order.
fn task_beside(puts: [fn(&Mailbox); 2], take: Take) -> Vec<Mail> {
    let mailbox = Arc::new(Mailbox::default());
    let senders = puts.map(|put| {
        let mailbox = Arc::clone(&mailbox);
        thread::spawn(move || put(&mailbox))
    });
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut taken = Vec::new();
    let go_on = |taken: &mut Vec<Mail>| {
        while let Poll::Ready(mail) = take(&mailbox, Sleeper::Task(&waker)) {
            if let Some(notice) = mail.notice {
                let _ = mailbox.told(notice.stamp);
            }
            taken.push(mail);
        }
    };
    go_on(&mut taken);
    for sender in senders {
        sender.join().unwrap();
    }
    // Asleep since then, whatever happened; it looks again only if somebody woke it.
    if woken.0.load(Ordering::SeqCst) {
        go_on(&mut taken);
    }
    assert!(mailbox.inner().pending.mail.is_empty(), "asleep beside what is to be told");
    taken
}

fn changes_beside(take: Take) {
    let mails =
        task_beside([|mailbox| lift(mailbox, notice(1), false), |mailbox| lift(mailbox, notice(2), false)], take);
    let told: Vec<Stamp> = mails.iter().filter_map(|mail| mail.notice).map(|notice| notice.stamp).collect();
    assert!(told.is_sorted_by(|a, b| a < b), "something older came after: {told:?}");
    assert_eq!(told.last(), Some(&stamp(2)));
}

#[test]
fn no_wake_up_is_lost_and_nothing_older_comes_after() {
    explore(|| changes_beside(Mailbox::poll_take));
}

/// A task that looks, finds nothing, and leaves word where to be woken: with no lock over both.
#[test]
#[should_panic(expected = "asleep beside what is to be told")]
fn who_falls_asleep_in_two_steps_loses_a_wake_up() {
    explore(|| {
        changes_beside(|mailbox, sleeper| {
            if mailbox.inner().pending.mail.is_empty() {
                Asleep::note(&mut mailbox.inner().asleep, sleeper);
                return Poll::Pending;
            }
            mailbox.poll_take(sleeper)
        });
    });
}

#[test]
fn the_end_of_a_session_beats_all() {
    explore(|| {
        let puts: [fn(&Mailbox); 2] =
            [|mailbox| end(mailbox, Effect::SignedOut), |mailbox| lift(mailbox, notice(2), false)];
        let mails = task_beside(puts, Mailbox::poll_take);
        assert!(mails.iter().any(|mail| mail.over == Some(Effect::SignedOut)), "the end was not told: {mails:?}");
    });
}

#[test]
fn the_first_end_is_the_one_that_is_told() {
    explore(|| {
        let puts: [fn(&Mailbox); 2] =
            [|mailbox| end(mailbox, Effect::Suspended), |mailbox| end(mailbox, Effect::SignedOut)];
        let mails = task_beside(puts, Mailbox::poll_take);
        assert!(mails.iter().all(|mail| mail.over.is_some()) && !mails.is_empty());
    });
}
