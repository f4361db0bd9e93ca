//! One owner of every task. A background task that ends before it should takes the process down: a replica whose feed is
//! dead must not go on answering.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owns the tasks of one application. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    stop: CancellationToken,
    tasks: TaskTracker,
    crashed: Arc<OnceLock<&'static str>>,
}

impl Lifecycle {
    /// An owner of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the application is to stop. A task that lives as long as the application ends soon after.
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task that lives as long as the application. If it ends or panics earlier, the application stops.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, name: &'static str, task: F) {
        let (stop, crashed) = (self.stop.clone(), Arc::clone(&self.crashed));
        self.tasks.spawn(async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            if !stop.is_cancelled() {
                let how = if ended.is_err() { "panicked" } else { "ended" };
                tracing::error!(task = name, "background task {how}; stopping, for without it answers may be wrong");
                let _ = crashed.set(name);
                stop.cancel();
            }
        });
    }

    /// Runs a task that ends by itself, and is waited for at the end.
    pub fn spawn_short<F: Future<Output = ()> + Send + 'static>(&self, name: &'static str, task: F) {
        self.tasks.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!(task = name, "task panicked");
            }
        });
    }

    /// Asks all tasks to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until all tasks have ended, at most `within`; tells whether they have.
    pub async fn join(&self, within: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(within, self.tasks.wait()).await.is_ok()
    }

    /// The task whose end stopped the application, if one did.
    pub fn crashed(&self) -> Option<&'static str> {
        self.crashed.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_dies_stops_the_rest() {
        let lifecycle = Lifecycle::new();
        let stop = lifecycle.token();
        lifecycle.spawn("faithful", async move { stop.cancelled().await });
        lifecycle.spawn("doomed", async { panic!("on purpose") });
        lifecycle.token().cancelled().await;
        assert!(lifecycle.join(Duration::from_secs(5)).await);
        assert_eq!(lifecycle.crashed(), Some("doomed"));
    }

    #[tokio::test]
    async fn an_orderly_stop_is_no_crash() {
        let lifecycle = Lifecycle::new();
        let stop = lifecycle.token();
        lifecycle.spawn("faithful", async move { stop.cancelled().await });
        lifecycle.stop();
        assert!(lifecycle.join(Duration::from_secs(5)).await);
        assert_eq!(lifecycle.crashed(), None);
    }
}
