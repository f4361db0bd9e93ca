//! Probes when it is our turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use super::state::{Arrival, Bird, all_applied, is_ours, until_next};
use crate::domain::rules::Refusal;
use crate::domain::{Actor, Clock, Operation, Random, Unit};
use crate::feed::{GONE_AFTER, Propagation};
use crate::socket::client::{ClientError, SocketClient};
use crate::store::{Store, StoreError, WriteError, Written};
use crate::token::{SessionError, Sessions};

/// How the log names it.
const ACTOR: Actor = Actor::System("canary");
/// Longest life of a probe's session; such sessions are few and forgotten soon.
const SESSION_LIFE: Duration = Duration::from_mins(1);
/// Time for the change to arrive. A later one is counted as late.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);
/// Time for all before it.
const PREPARED_WITHIN: Duration = Duration::from_secs(5);

/// Why there was nothing to measure.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("the canary's permission could not be flipped")]
    Write(#[from] WriteError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the canary could not sign in")]
    Session(#[from] SessionError),
    #[error("the canary could not connect")]
    Socket(#[from] ClientError),
    #[error("it took too long")]
    Slow,
    #[error("flipping changed nothing")]
    Nothing,
}

/// All that a probe goes through.
#[derive(Clone)]
pub struct Canary {
    pub replica: String,
    /// Where the replica listens whose client is told: this one.
    pub address: SocketAddr,
    /// What to trust it by, where it speaks TLS.
    pub tls: Option<Arc<ClientConfig>>,
    pub store: Arc<dyn Store>,
    pub sessions: Arc<Sessions>,
    pub propagation: Arc<Propagation>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

/// Probes at the interval, by turns with the other replicas, until told to stop.
pub async fn run(canary: Canary, interval: Duration, stop: CancellationToken) {
    let mut fails = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(until_next(canary.clock.now(), interval)) => {}
            () = stop.cancelled() => return,
        }
        let now = canary.clock.now();
        let Ok(running) = canary.store.replicas(GONE_AFTER).await else { continue };
        let running: Vec<String> = running.into_iter().map(|replica| replica.id).collect();
        if !is_ours(&canary.replica, &running, now, interval) {
            continue;
        }
        let outcome = tokio::select! {
            outcome = canary.probe() => outcome,
            () = stop.cancelled() => return,
        };
        match &outcome {
            Ok(arrival) => {
                for (stage, took) in arrival.stages() {
                    if let Some(took) = took {
                        metrics::histogram!("permcast_freshness_seconds", "stage" => stage).record(took.as_secs_f64());
                    }
                }
                count(if arrival.is_complete() { "complete" } else { "late" });
            }
            Err(error) => {
                count("failed");
                // Said once, and counted each time.
                if !fails {
                    tracing::warn!(error = error as &dyn std::error::Error, "the canary does not sing");
                }
            }
        }
        fails = outcome.is_err();
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("permcast_canary_probes_total", "outcome" => outcome).increment(1);
}

impl Canary {
    /// One change, and how long it takes to everywhere.
    pub async fn probe(&self) -> Result<Arrival, ProbeError> {
        let bird = &Bird::new();
        let prepared = tokio::time::timeout(PREPARED_WITHIN, async {
            let socket = self.perch(bird).await?;
            Ok::<_, ProbeError>((socket, self.flip(bird).await?))
        });
        let (mut socket, written) = prepared.await.unwrap_or(Err(ProbeError::Slow))?;
        let (version, asked) = (written.version, self.clock.boottime());
        let seq = written.changes.last().ok_or(ProbeError::Nothing)?.seq;
        let told = async {
            let told = tokio::time::timeout(ARRIVES_WITHIN, socket.told_of(version)).await;
            matches!(told, Ok(Ok(()))).then(|| self.clock.boottime())
        };
        let applied = async {
            let report = self.propagation.wait(version, ARRIVES_WITHIN).await;
            (report, self.clock.boottime())
        };
        let (told, (report, found_out)) = tokio::join!(told, applied);
        // When the commit was done: a moment before the writer was answered.
        let committed = self.propagation.learnt(seq).unwrap_or(asked);
        let report = report?;
        let _ = tokio::time::timeout(PREPARED_WITHIN, socket.close()).await;
        let own = report.replicas.iter().find(|replica| replica.id == self.replica).and_then(|replica| replica.ms);
        Ok(Arrival {
            applied: own.map(|ms| Duration::from_secs_f64(ms / 1000.0)),
            all_replicas: all_applied(&report, found_out.since(committed)),
            socket: told.map(|told| told.since(committed)),
        })
    }

    /// A connection with a token that is fresh. Makes the user where it is not there.
    async fn perch(&self, bird: &Bird) -> Result<SocketClient, ProbeError> {
        let begin = || self.sessions.begin_own(&bird.tenant, &bird.user, SESSION_LIFE, "canary");
        let issued = match begin().await {
            Err(SessionError::Refused) => {
                for operation in bird.making() {
                    match self.write(operation).await {
                        Ok(_) | Err(WriteError::Refused { refusal: Refusal::Exists(_), .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                begin().await?
            }
            issued => issued?,
        };
        Ok(SocketClient::connect(self.address, self.tls.as_ref(), &issued.access.token, &*self.random).await?)
    }

    async fn flip(&self, bird: &Bird) -> Result<Written, ProbeError> {
        let given = self.write(bird.flip(true)).await?;
        if given.changes.is_empty() { Ok(self.write(bird.flip(false)).await?) } else { Ok(given) }
    }

    async fn write(&self, operation: Operation) -> Result<Written, WriteError> {
        self.store.write(Unit { actor: ACTOR, operations: vec![operation] }).await
    }
}
