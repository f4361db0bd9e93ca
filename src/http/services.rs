//! What handlers are handed: the rooms below, each as it stands in this process.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use metrics_exporter_prometheus::PrometheusHandle;

use super::demo::Demo;
use crate::bus::Bus;
use crate::cache::PermissionCache;
use crate::domain::{Clock, Timestamp};
use crate::feed::{Feed, Peers, Propagation, RollCall};
use crate::gate::Gate;
use crate::hub::Hub;
use crate::store::Store;
use crate::token::{KeySet, Passwords};

/// One replica's rooms, for all of its handlers. None of them can publish or notify.
pub struct Services {
    /// This replica's name.
    pub replica: String,
    /// `iss` of tokens.
    pub issuer: String,
    pub store: Arc<dyn Store>,
    pub gate: Arc<Gate>,
    pub feed: Feed,
    pub hub: Arc<Hub>,
    /// For its standing alone.
    pub bus: Arc<dyn Bus>,
    pub cache: Arc<PermissionCache>,
    pub peers: Arc<Peers>,
    pub propagation: Arc<Propagation>,
    pub roll_call: Arc<RollCall>,
    pub keys: Arc<KeySet>,
    pub passwords: Arc<Passwords>,
    pub clock: Arc<dyn Clock>,
    pub metrics: PrometheusHandle,
    /// Whether the replica is stopping: unready, though it still answers.
    pub draining: Arc<AtomicBool>,
    pub started_at: Timestamp,
    /// The memory of the process before there were connections, in bytes.
    pub resident_at_start: u64,
    /// In the demo alone.
    pub demo: Option<Demo>,
}
