//! Whether the broker carries what we say. A connection that stands proves little: it may be deaf, mute or half gone, and
//! a broker may answer pings and lose messages. What we announce comes back to us; while it does, the way is whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Standing;
use crate::domain::{Boottime, Clock};

/// An announcement that has not come back for so long says that the broker is not there for us.
const SILENT_AFTER: Duration = Duration::from_secs(2);
/// After so long the connection is given up and made anew.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

/// What is known of the way to the broker and back.
pub(super) struct Link {
    clock: Arc<dyn Clock>,
    connected: AtomicBool,
    /// When the oldest announcement was made that nothing has come back since, in nanoseconds of boot time; 0 is none.
    asked: AtomicU64,
    /// Whether anything ever came back: who may not hear himself gains nothing by a new connection.
    ever: AtomicBool,
}

impl Link {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, connected: AtomicBool::new(false), asked: AtomicU64::new(0), ever: AtomicBool::new(false) }
    }

    /// The connection stands, or no longer.
    pub(super) fn connected(&self, connected: bool) {
        self.asked.store(0, Ordering::Release);
        self.connected.store(connected, Ordering::Release);
    }

    /// Something was announced.
    pub(super) fn asks(&self) {
        let now = u64::try_from(self.clock.boottime().0.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Where one waits already, that one is the older.
        let _ = self.asked.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
    }

    /// It came back.
    pub(super) fn hears_itself(&self) {
        self.ever.store(true, Ordering::Release);
        self.asked.store(0, Ordering::Release);
    }

    pub(super) fn standing(&self) -> Standing {
        let up = self.connected.load(Ordering::Acquire) && self.silence() < SILENT_AFTER;
        if up { Standing::Up } else { Standing::Down }
    }

    /// Whether a connection that stands is of no use. True once a connection.
    pub(super) fn gives_up(&self) -> bool {
        let useless = self.connected.load(Ordering::Acquire)
            && self.ever.load(Ordering::Acquire)
            && self.silence() >= GIVE_UP_AFTER;
        useless && self.connected.swap(false, Ordering::AcqRel)
    }

    fn silence(&self) -> Duration {
        match self.asked.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            asked => self.clock.boottime().since(Boottime(Duration::from_nanos(asked))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }

        fn boottime(&self) -> Boottime {
            Boottime(Duration::from_secs(self.0.load(Ordering::Acquire)))
        }
    }

    #[test]
    fn who_does_not_hear_himself_is_cut_off() {
        let clock = Arc::new(Hand(AtomicU64::new(100)));
        let pass = |seconds| clock.0.fetch_add(seconds, Ordering::AcqRel);
        let link = Link::new(Arc::clone(&clock) as Arc<dyn Clock>);
        assert_eq!(link.standing(), Standing::Down);
        link.connected(true);
        assert_eq!(link.standing(), Standing::Up);

        // Never heard: down, but there is nothing to gain by another connection.
        link.asks();
        pass(10);
        assert_eq!((link.standing(), link.gives_up()), (Standing::Down, false));

        link.hears_itself();
        pass(10);
        assert_eq!(link.standing(), Standing::Up, "nothing was said meanwhile");
        link.asks();
        pass(1);
        link.asks();
        assert_eq!(link.standing(), Standing::Up);
        pass(1);
        assert_eq!((link.standing(), link.gives_up()), (Standing::Down, false), "counted from the oldest");
        pass(3);
        assert!(link.gives_up());
        assert!(!link.gives_up(), "once");
        link.connected(true);
        assert_eq!(link.standing(), Standing::Up);
    }
}
