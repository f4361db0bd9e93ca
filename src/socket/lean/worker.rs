//! What the connections of one worker thread have in common: a buffer to read into, and the wheel of their alarms.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::wheel::{Alarm, Wheel};
use crate::domain::{Boottime, limits::SOCKET_MESSAGE_BYTES_MAX};
use crate::socket::Sockets;

/// How finely alarms are told apart. The shortest wait of a connection is a quarter of a second.
const TICK: Duration = Duration::from_millis(50);

/// What brings a moment to the tick that begins then or next.
const ALMOST_A_TICK: Duration = Duration::from_nanos(49_999_999);

/// One worker thread.
pub struct Worker {
    pub(super) sockets: Arc<Sockets>,
    wheel: RefCell<Wheel<Waker>>,
    /// Whether somebody turns the wheel.
    turning: Cell<bool>,
    buffer: RefCell<Box<[u8]>>,
}

impl Worker {
    /// Without connections.
    pub fn new(sockets: Arc<Sockets>) -> Rc<Self> {
        let wheel = RefCell::new(Wheel::new(ticks(sockets.clock.boottime())));
        let buffer = RefCell::new(vec![0; SOCKET_MESSAGE_BYTES_MAX].into());
        Rc::new(Self { sockets, wheel, turning: Cell::new(false), buffer })
    }

    /// The buffer to read into, for as long as it takes to look at what was read.
    pub(super) fn buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.buffer.borrow_mut()
    }

    /// An alarm that wakes this task. Now and then the wheel is turned, while there are any.
    pub(super) fn join(self: &Rc<Self>, waker: Waker) -> Alarm {
        let alarm = self.wheel.borrow_mut().insert(waker);
        if !self.turning.replace(true) {
            self.sockets.run(Rc::clone(self).turn());
        }
        alarm
    }

    /// Takes an alarm away.
    pub(super) fn leave(&self, alarm: Alarm) {
        drop(self.wheel.borrow_mut().remove(alarm));
    }

    /// Sets an alarm, and whom it wakes.
    pub(super) fn set(&self, alarm: Alarm, waker: &Waker, at: Option<Boottime>) {
        let mut wheel = self.wheel.borrow_mut();
        // Not before its moment: the tick that begins then or next.
        wheel.set(alarm, at.map(|at| ticks(Boottime(at.0.saturating_add(ALMOST_A_TICK)))));
        if let Some(known) = wheel.get_mut(alarm) {
            known.clone_from(waker);
        }
    }

    /// Turns the wheel as long as there are alarms, and wakes all when the server begins to stop.
    async fn turn(self: Rc<Self>) {
        let mut stopping = false;
        while self.wheel.borrow().len() > 0 {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.sockets.draining.cancelled(), if !stopping => {
                    stopping = true;
                    self.wheel.borrow().values().for_each(Waker::wake_by_ref);
                }
            }
            self.wheel.borrow_mut().advance(ticks(self.sockets.clock.boottime()), Waker::wake_by_ref);
        }
        self.turning.set(false);
    }
}

fn ticks(moment: Boottime) -> u64 {
    u64::try_from(moment.0.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX)
}
