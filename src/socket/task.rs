//! Drives a connection over a [`Carrier`]: fetches what happens, writes what comes out of it, decides nothing.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::driver::{Driver, Out};
use super::state::Input;
use super::{Carrier, Sockets};
use crate::hub::{Seat, Sleeper};
use crate::token::Verified;

/// Drives a connection to its end. A token that came with the handshake was identified there.
pub(super) async fn drive<C: Carrier>(sockets: Arc<Sockets>, seat: Seat, token: Option<Arc<Verified>>, mut carrier: C) {
    let mut driver = Driver::new(Arc::clone(&sockets), seat);
    let mut out = VecDeque::new();
    if let Some(verified) = token {
        driver.brought(verified, &mut out);
    }
    let turn = sockets.random.up_to(sockets.deadlines.drain);
    let drain = async {
        sockets.draining.cancelled().await;
        tokio::time::sleep(turn).await;
    };
    let mut drain = std::pin::pin!(drain);
    loop {
        write(&sockets, &mut driver, &mut carrier, &mut out).await;
        if driver.is_closing() {
            break;
        }
        let wait = driver.deadline().map(|deadline| deadline.since(sockets.clock.boottime()));
        let tick = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = poll_fn(|context| inside(&mut driver, context, &mut out)) => {}
            received = carrier.receive() => driver.received(&received, &mut out),
            () = tick => driver.happened(Input::Tick, &mut out),
            () = &mut drain => driver.happened(Input::Drain, &mut out),
        }
    }
}

fn inside(driver: &mut Driver, context: &mut Context<'_>, out: &mut VecDeque<Out>) -> Poll<()> {
    let waker = context.waker().clone();
    driver.poll_inside(context, Sleeper::Task(&waker), out)
}

/// Writes what is to go out. One who does not take it is as good as gone: he comes back, and is told at welcome.
async fn write<C: Carrier>(sockets: &Sockets, driver: &mut Driver, carrier: &mut C, out: &mut VecDeque<Out>) {
    while let Some(next) = out.pop_front() {
        let (frame, stamp) = match next {
            Out::Text(frame) => (frame, None),
            Out::Notice(frame, stamp) => (frame, Some(stamp)),
            Out::Close(code) => {
                driver.leave();
                carrier.close(code).await;
                return;
            }
        };
        match tokio::time::timeout(sockets.deadlines.write, carrier.send(frame)).await {
            Ok(Ok(())) => {
                if let Some(stamp) = stamp {
                    driver.told(stamp);
                }
            }
            failed => {
                out.clear();
                driver.happened(if failed.is_ok() { Input::Gone } else { Input::Stuck }, out);
            }
        }
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
