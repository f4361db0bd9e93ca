//! What the connections of one worker thread have in common: a buffer to read into, the wheel of their alarms, and the bell
//! by which those are called that have mail.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use actix_web::web::Bytes;

use super::outbound::Piece;
use super::wheel::{Alarm, Wheel};
use crate::domain::{Boottime, limits::SOCKET_MESSAGE_BYTES_MAX};
use crate::hub::{Bell, Sleeper};
use crate::socket::Sockets;
use crate::socket::driver::Out;

/// How finely alarms are told apart. The shortest wait of a connection is a quarter of a second.
const TICK: Duration = Duration::from_millis(50);

/// What brings a moment to the tick that begins then or next.
const ALMOST_A_TICK: Duration = Duration::from_nanos(49_999_999);

/// Connections that are woken before others have their turn. Each takes a few microseconds.
const CALLED_AT_ONCE: usize = 64;

/// One worker thread.
pub struct Worker {
    pub(super) sockets: Arc<Sockets>,
    /// The connections' tasks, each by its alarm.
    wheel: RefCell<Wheel<Waker>>,
    bell: Arc<Bell>,
    /// Whether somebody turns the wheel and hears the bell.
    attended: Cell<bool>,
    buffer: RefCell<Box<[u8]>>,
    /// Room for what comes out of a connection, and for how it is written: of one connection after the other.
    pub(super) out: Cell<VecDeque<Out>>,
    pub(super) pieces: Cell<VecDeque<(Bytes, Piece)>>,
}

impl Worker {
    /// Without connections.
    pub fn new(sockets: Arc<Sockets>) -> Rc<Self> {
        let wheel = RefCell::new(Wheel::new(ticks(sockets.clock.boottime())));
        let buffer = RefCell::new(vec![0; SOCKET_MESSAGE_BYTES_MAX].into());
        Rc::new(Self {
            sockets,
            wheel,
            bell: Arc::default(),
            attended: Cell::new(false),
            buffer,
            out: Cell::default(),
            pieces: Cell::default(),
        })
    }

    /// The buffer to read into, for as long as it takes to look at what was read.
    pub(super) fn buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.buffer.borrow_mut()
    }

    /// An alarm that wakes this task, which is the connection's for life.
    pub(super) fn join(self: &Rc<Self>, waker: Waker) -> Alarm {
        let alarm = self.wheel.borrow_mut().insert(waker);
        if !self.attended.replace(true) {
            self.sockets.run(Rc::clone(self).attend());
        }
        alarm
    }

    /// Takes an alarm away.
    pub(super) fn leave(&self, alarm: Alarm) {
        drop(self.wheel.borrow_mut().remove(alarm));
    }

    /// How the one with this alarm is called when it has mail.
    pub(super) fn sleeper(&self, alarm: Alarm) -> Sleeper<'_> {
        Sleeper::Called(&self.bell, alarm.0)
    }

    /// Sets an alarm that now rings at the tick `rings`; answers when it will. One that rings earlier is left as it is: whoever
    /// it wakes looks whether the time has come, and sets it again.
    pub(super) fn set(&self, alarm: Alarm, rings: u64, now: Boottime, at: Option<Boottime>) -> u64 {
        // Not before its moment: the tick that begins then or next.
        let at = at.map(|at| ticks(Boottime(at.0.saturating_add(ALMOST_A_TICK))));
        if rings > ticks(now) && at.is_none_or(|at| at >= rings) {
            return rings;
        }
        self.wheel.borrow_mut().set(alarm, at)
    }

    /// As long as there are connections, turns the wheel now and then, and calls those for whom the bell has rung; and wakes
    /// all when the server begins to stop.
    async fn attend(self: Rc<Self>) {
        let (mut stopping, mut called) = (false, Vec::new());
        while self.wheel.borrow().len() > 0 {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.sockets.draining.cancelled(), if !stopping => {
                    stopping = true;
                    self.wheel.borrow().values().for_each(Waker::wake_by_ref);
                }
                () = poll_fn(|context| self.bell.poll_called(context, &mut called)) => self.call(&mut called).await,
            }
            self.wheel.borrow_mut().advance(ticks(self.sockets.clock.boottime()), Waker::wake_by_ref);
        }
        self.attended.set(false);
    }

    /// Wakes those who are called, some at a time, so that requests and other clients do not wait for all of them.
    async fn call(&self, called: &mut Vec<u32>) {
        for some in called.chunks(CALLED_AT_ONCE) {
            self.wake(some);
            tokio::task::yield_now().await;
        }
        called.clear();
    }

    fn wake(&self, called: &[u32]) {
        let wheel = self.wheel.borrow();
        called.iter().filter_map(|&number| wheel.get(Alarm(number))).for_each(Waker::wake_by_ref);
    }
}

fn ticks(moment: Boottime) -> u64 {
    u64::try_from(moment.0.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX)
}
