//! Who sleeps until a mailbox holds something, and how a whole thread's sleepers are called at the price of one.
//!
//! The feed tells ten thousand connections from one thread. Were it to wake each one's task, it would pay for each the way
//! into another thread's queue; instead it notes a number with the bell of the thread, which is woken once for as many as
//! there are, and wakes its own tasks by itself.

use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::domain::sync::{Mutex, MutexGuard};

/// One thread's bell. What was noted is not in any order, and may be noted twice.
///
/// As many numbers are noted at most as there are mailboxes that sleep on it: a mailbox notes its number once, until its
/// connection sleeps again.
#[derive(Debug, Default)]
pub struct Bell(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    called: Vec<u32>,
    /// Who calls them, while there is nobody to call.
    waker: Option<Waker>,
}

impl Bell {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has one of the thread's sleepers called.
    fn ring(&self, whom: u32) {
        let mut inner = self.inner();
        inner.called.push(whom);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes out who is to be called, in exchange for a list that is empty; pending while there is nobody. For one task.
    pub fn poll_called(&self, context: &mut Context<'_>, called: &mut Vec<u32>) -> Poll<()> {
        debug_assert!(called.is_empty());
        let mut inner = self.inner();
        if inner.called.is_empty() {
            inner.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut inner.called, called);
        Poll::Ready(())
    }
}

/// Who is to be woken when there is something.
#[derive(Debug, Clone, Copy)]
pub enum Sleeper<'a> {
    /// A task.
    Task(&'a Waker),
    /// The one that a thread knows by this number.
    Called(&'a Arc<Bell>, u32),
}

impl<'a> From<&Context<'a>> for Sleeper<'a> {
    fn from(context: &Context<'a>) -> Self {
        Self::Task(context.waker())
    }
}

/// The same, for as long as it sleeps.
#[derive(Debug)]
pub(super) enum Asleep {
    Task(Waker),
    Called(Arc<Bell>, u32),
}

impl Asleep {
    /// Notes who sleeps; nothing is counted up or down where it is the same as before.
    pub(super) fn note(noted: &mut Option<Self>, sleeper: Sleeper<'_>) {
        match (noted, sleeper) {
            (Some(Self::Task(known)), Sleeper::Task(waker)) => known.clone_from(waker),
            (Some(Self::Called(known, number)), Sleeper::Called(bell, other)) if Arc::ptr_eq(known, bell) => {
                *number = other;
            }
            (noted, Sleeper::Task(waker)) => *noted = Some(Self::Task(waker.clone())),
            (noted, Sleeper::Called(bell, number)) => *noted = Some(Self::Called(Arc::clone(bell), number)),
        }
    }

    pub(super) fn wake(self) {
        match self {
            Self::Task(waker) => waker.wake(),
            Self::Called(bell, number) => bell.ring(number),
        }
    }
}

#[cfg(all(test, feature = "loom"))]
mod models {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use loom::thread;

    use super::*;
    use crate::domain::sync::explore;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn nobody_who_is_to_be_called_is_forgotten() {
        explore(|| {
            let bell = Arc::new(Bell::default());
            let ringing = [1, 2].map(|number| {
                let bell = Arc::clone(&bell);
                thread::spawn(move || bell.ring(number))
            });
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let mut all = Vec::new();
            let call = |all: &mut Vec<u32>| {
                let mut called = Vec::new();
                while bell.poll_called(&mut Context::from_waker(&waker), &mut called).is_ready() {
                    all.append(&mut called);
                }
            };
            call(&mut all);
            for thread in ringing {
                thread.join().unwrap();
            }
            // Asleep since then; it looks again only if somebody woke it.
            if woken.0.load(Ordering::SeqCst) {
                call(&mut all);
            }
            all.sort_unstable();
            assert_eq!(all, [1, 2]);
        });
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_thread_is_woken_once_for_all_that_were_called() {
        let (bell, count) = (Arc::new(Bell::default()), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut called = Vec::new();
        let poll = |called: &mut Vec<u32>| bell.poll_called(&mut Context::from_waker(&waker), called);
        assert!(poll(&mut called).is_pending());
        for number in [3, 1, 2] {
            bell.ring(number);
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(poll(&mut called).is_ready());
        assert_eq!(called, [3, 1, 2]);
        called.clear();
        assert!(poll(&mut called).is_pending());
        bell.ring(7);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
