//! The lean carrier: a WebSocket, or a stream of server-sent events, for which, while nothing happens, there is its socket, a
//! small task and nothing else.
//!
//! In `actix_ws`, and under an answer that does not end, the HTTP connection stays beneath for life, with its buffers. Here the
//! socket itself was handed over after the handshake: it reads into a buffer that a whole thread shares, keeps what it could not write only where the
//! kernel refused it, and has no timer of its own.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod inbound;
mod outbound;
mod speech;
mod wheel;
mod worker;

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::web::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::inbound::{Inbound, Said};
use self::outbound::{Outbound, Piece};
pub use self::speech::Speech;
use self::wheel::Alarm;
pub use self::worker::Worker;
use super::Received;
use super::driver::{Driver, Out};
use super::state::Input;
use crate::domain::Boottime;
use crate::hub::Seat;
use crate::token::Verified;

/// How long what a client still sends is read after the last word to it. A round trip is enough for who is still sending,
/// and a client that does not answer a close is not waited for.
pub const LINGER: Duration = Duration::from_millis(250);

/// Goes on with a socket whose handshake was found valid.
///
/// `answer` is the rest of what is to be written before, and `ahead` what came behind the handshake.
pub fn accept<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    worker: &Rc<Worker>,
    socket: S,
    speech: Speech,
    answer: Bytes,
    ahead: &[u8],
    seat: Seat,
    token: Option<Arc<Verified>>,
) {
    let mut driver = Driver::new(Arc::clone(&worker.sockets), seat);
    let mut out = VecDeque::new();
    if let Some(verified) = token {
        driver.brought(verified, &mut out);
    }
    let mut outbound = Outbound::new(answer);
    outbound.extend(&mut out, speech);
    let ahead = if speech == Speech::WebSocket { ahead } else { b"" };
    worker.sockets.run(Lean {
        socket,
        speech,
        worker: Rc::clone(worker),
        alarm: None,
        rings: 0,
        driver,
        inbound: (!ahead.is_empty()).then(|| Box::new(Inbound::new(ahead))),
        outbound: Some(Box::new(outbound)),
        phase: Phase::Open,
    });
}

/// One connection.
struct Lean<S> {
    socket: S,
    speech: Speech,
    worker: Rc<Worker>,
    /// What the thread knows it by: from its first poll on.
    alarm: Option<Alarm>,
    /// When the alarm rings.
    rings: u64,
    driver: Driver,
    /// What came and is no message yet.
    inbound: Option<Box<Inbound>>,
    /// What the kernel did not take yet. While there is any, nothing else is done: the rest waits where it is merged.
    outbound: Option<Box<Outbound>>,
    phase: Phase,
}

/// How far it is from its end.
#[derive(Clone, Copy)]
enum Phase {
    Open,
    /// The server stops, and this is when it is told so.
    Draining(Boottime),
    /// The last word is said, and this is when it is over.
    Lingering(Boottime),
}

impl<S> Drop for Lean<S> {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            self.worker.leave(alarm);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Lean<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let now = this.worker.sockets.clock.boottime();
        let alarm = *this.alarm.get_or_insert_with(|| this.worker.join(context.waker().clone()));
        let room = || Outbound::within(this.worker.pieces.take());
        let mut outbound = this.outbound.take().map_or_else(room, |outbound| *outbound);
        let mut out = this.worker.out.take();
        while let Poll::Ready(step) = this.step(context, alarm, now, &mut outbound, &mut out) {
            if step.is_none() {
                this.driver.leave();
                let _ = Pin::new(&mut this.socket).poll_shutdown(context);
                return Poll::Ready(());
            }
        }
        let at = this.deadline(&outbound);
        this.worker.out.set(out);
        if outbound.is_empty() {
            this.worker.pieces.set(outbound.room());
        } else {
            this.outbound = Some(Box::new(outbound));
        }
        this.rings = this.worker.set(alarm, this.rings, now, at);
        Poll::Pending
    }
}

/// That it goes on; `None`: it is over.
type Step = Option<()>;

impl<S: AsyncRead + AsyncWrite + Unpin> Lean<S> {
    /// When it is to be woken at the latest.
    fn deadline(&self, outbound: &Outbound) -> Option<Boottime> {
        match self.phase {
            Phase::Lingering(until) => Some(until),
            _ if outbound.due.is_some() => outbound.due,
            Phase::Draining(at) => Some(self.driver.deadline().map_or(at, |other| other.min(at))),
            Phase::Open => self.driver.deadline(),
        }
    }

    /// Writes what is to be written, then takes in one thing that happened.
    fn step(
        &mut self,
        context: &mut Context<'_>,
        alarm: Alarm,
        now: Boottime,
        outbound: &mut Outbound,
        out: &mut VecDeque<Out>,
    ) -> Poll<Step> {
        if let Phase::Lingering(until) = self.phase
            && until <= now
        {
            return Poll::Ready(None);
        }
        match self.flush(context, now, outbound) {
            Poll::Ready(Ok(())) => outbound.due = None,
            Poll::Ready(Err(_)) => return Poll::Ready(None),
            Poll::Pending => return self.held_up(now, outbound),
        }
        if matches!(self.phase, Phase::Lingering(_)) {
            return self.hear_out(context);
        }
        let went_on = ready!(self.take_in(context, alarm, now, outbound, out));
        outbound.extend(out, self.speech);
        Poll::Ready(went_on)
    }

    fn flush(
        &mut self,
        context: &mut Context<'_>,
        now: Boottime,
        outbound: &mut Outbound,
    ) -> Poll<std::io::Result<()>> {
        while let Some(piece) = outbound.first() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, piece))?;
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            match outbound.wrote(written) {
                None | Some(Piece::Other) => {}
                Some(Piece::Notice(stamp)) => self.driver.told(stamp),
                Some(Piece::Last) => {
                    self.driver.leave();
                    self.phase = Phase::Lingering(Boottime(now.0 + LINGER));
                }
                Some(Piece::Farewell) => return Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted.into())),
            }
        }
        Pin::new(&mut self.socket).poll_flush(context)
    }

    /// The client does not take what is written to it. For too long, and it is as good as gone: it comes back, and is told
    /// at welcome.
    fn held_up(&mut self, now: Boottime, outbound: &mut Outbound) -> Poll<Step> {
        let within = self.worker.sockets.deadlines.write;
        let due = *outbound.due.get_or_insert(Boottime(now.0 + within));
        if due > now || matches!(self.phase, Phase::Lingering(_)) {
            return Poll::Pending;
        }
        let mut out = VecDeque::new();
        self.driver.happened(Input::Stuck, &mut out);
        self.driver.leave();
        outbound.give_up();
        outbound.extend(&mut out, self.speech);
        self.phase = Phase::Lingering(Boottime(now.0 + LINGER));
        Poll::Ready(Some(()))
    }

    /// Takes in what happened first: inside the house, in time, at the client.
    fn take_in(
        &mut self,
        context: &mut Context<'_>,
        alarm: Alarm,
        now: Boottime,
        outbound: &mut Outbound,
        out: &mut VecDeque<Out>,
    ) -> Poll<Step> {
        if self.driver.poll_inside(context, self.worker.sleeper(alarm), out).is_ready() {
            return Poll::Ready(Some(()));
        }
        if self.is_told_to_go(now) {
            self.driver.happened(Input::Drain, out);
            return Poll::Ready(Some(()));
        }
        if self.driver.deadline().is_some_and(|deadline| deadline <= now) {
            self.driver.happened(Input::Tick, out);
            return Poll::Ready(Some(()));
        }
        let Some(said) = ready!(self.poll_said(context)) else {
            self.driver.happened(Input::Gone, out);
            return Poll::Ready(None);
        };
        match said {
            Said::Received(received) => self.driver.received(&received, out),
            Said::Ping(bytes) => {
                outbound.pong(&bytes);
                self.driver.received(&Received::Part, out);
            }
            Said::Close(frame) => {
                self.driver.happened(Input::Gone, out);
                self.driver.leave();
                outbound.farewell(frame);
            }
        }
        Poll::Ready(Some(()))
    }

    /// Whether the server stops, and it is this one's turn.
    fn is_told_to_go(&mut self, now: Boottime) -> bool {
        let sockets = &self.worker.sockets;
        if matches!(self.phase, Phase::Open) && sockets.is_draining() {
            self.phase = Phase::Draining(Boottime(now.0 + sockets.random.up_to(sockets.deadlines.drain)));
        }
        matches!(self.phase, Phase::Draining(at) if at <= now)
    }

    /// The next thing that the client said; `None` when it is gone.
    fn poll_said(&mut self, context: &mut Context<'_>) -> Poll<Option<Said>> {
        loop {
            if let Some(inbound) = &mut self.inbound {
                if let Some(said) = inbound.next() {
                    return Poll::Ready(Some(said));
                }
                if inbound.is_empty() {
                    self.inbound = None;
                }
            }
            let mut shared = self.worker.buffer();
            let mut buffer = ReadBuf::new(&mut shared);
            match ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() && self.speech != Speech::WebSocket => {
                    return Poll::Ready(Some(Said::Received(Received::Part)));
                }
                Ok(()) if !buffer.filled().is_empty() => match &mut self.inbound {
                    Some(inbound) => inbound.extend(buffer.filled()),
                    none => *none = Some(Box::new(Inbound::new(buffer.filled()))),
                },
                _ => return Poll::Ready(None),
            }
        }
    }

    /// Reads what the client still says, up to its own last word.
    fn hear_out(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        match ready!(self.poll_said(context)) {
            Some(Said::Ping(_) | Said::Received(Received::Text(_) | Received::Binary | Received::Part)) => {
                Poll::Ready(Some(()))
            }
            // What is no WebSocket has no last word, and is read to its end or to ours.
            Some(Said::Received(_)) => {
                self.inbound = None;
                Poll::Ready(Some(()))
            }
            Some(Said::Close(_)) | None => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
#[path = "lean_tests.rs"]
mod tests;
