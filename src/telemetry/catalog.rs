//! Every metric by name: what kind it is, how it is told apart, what it says. `docs/metrics.md` is held to this list, and so
//! is every place that counts.

use metrics::Unit;

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only rises, from zero at the process's start.
    Counter,
    /// Stands where it stands.
    Gauge,
    /// Counts by how large what was seen is; the bounds of the buckets.
    Histogram(&'static [f64]),
}

/// How the series of one metric are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// There is one series.
    None,
    /// One for each of these values, there from the start, so that the first count of a series is seen as a rise.
    Of(&'static str, &'static [&'static str]),
    /// One for each combination that occurs.
    Free(&'static [&'static str]),
}

impl Label {
    /// The names of its labels.
    pub fn names(self) -> Vec<&'static str> {
        match self {
            Self::None => Vec::new(),
            Self::Of(name, _) => vec![name],
            Self::Free(names) => names.to_vec(),
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub label: Label,
    pub help: &'static str,
}

/// From half a millisecond, which is what a change takes while all is well, to five seconds, when a probe gives up.
const FRESHNESS_BUCKETS: &[f64] = &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

const fn gauge(name: &'static str, label: Label, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, label, help }
}

const fn counter(name: &'static str, label: Label, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, label, help }
}

/// All of them.
pub const METRICS: &[Metric] = &[
    // How far this replica is.
    gauge("permcast_lag_seconds", Label::None, "since this replica last knew that it had missed nothing"),
    gauge("permcast_max_staleness_seconds", Label::None, "the bound past which it does what on_stale says"),
    gauge("permcast_ready", Label::None, "1 while it is within the bound"),
    gauge("permcast_applied_seq", Label::None, "position in the log up to which everything is applied"),
    gauge("permcast_known_seq", Label::None, "highest position that is known to exist"),
    gauge("permcast_broker_up", Label::None, "1 while NATS is connected"),
    counter("permcast_changes_applied_total", Label::None, "changes applied: floors, cache and connections"),
    counter("permcast_tail_reads_total", Label::None, "reads of the log's tail"),
    counter(
        "permcast_log_pruned_total",
        Label::None,
        "rows that were older than `PERMCAST_LOG_RETENTION`, and taken away here",
    ),
    counter("permcast_tail_errors_total", Label::None, "reads of it that failed"),
    counter("permcast_epochs_total", Label::None, "times that the log began anew, as after a restore"),
    counter(
        "permcast_log_taken_back_total",
        Label::None,
        "times that the log lacked what had been read from it: a new epoch was begun",
    ),
    counter("permcast_log_behind_total", Label::None, "times that the log ended before what is known to exist"),
    counter(
        "permcast_log_missing_total",
        Label::None,
        "numbers missing in the log, each taken as a change of everyone",
    ),
    counter(
        "permcast_log_unreadable_total",
        Label::None,
        "rows that could not be read, each taken as a change of everyone",
    ),
    // What was heard.
    counter(
        "permcast_bus_rejected_total",
        Label::Of("why", &["unsealed", "seal", "unreadable"]),
        "messages from NATS that were not believed",
    ),
    counter(
        "permcast_bus_dropped_total",
        Label::Of("direction", &["in", "out"]),
        "messages for which there was no room; the log's tail shows what was in them",
    ),
    counter(
        "permcast_channel_dropped_total",
        Label::Of("channel", &["hints"]),
        "own commits for which the feed had no room; the log's tail shows them",
    ),
    // How soon a change arrives.
    Metric {
        name: "permcast_freshness_seconds",
        kind: Kind::Histogram(FRESHNESS_BUCKETS),
        label: Label::Of("stage", &["applied", "all_replicas", "socket"]),
        help: "from the canary's commit until it was applied here, on every replica, and read from a WebSocket here",
    },
    counter(
        "permcast_canary_probes_total",
        Label::Of("outcome", &["complete", "late", "failed"]),
        "probes: all stages within 5 s, not all of them, or nothing to measure",
    ),
    // Whether it is right.
    counter(
        "permcast_audit_checked_total",
        Label::Of("what", &["user", "role", "access", "connection"]),
        "looks of the self-check that compared what is held with the database",
    ),
    counter(
        "permcast_audit_skipped_total",
        Label::Of("why", &["changed", "behind", "unsettled", "unavailable", "slow"]),
        "looks that could not compare, as where a change came in between",
    ),
    counter(
        "permcast_audit_mismatches_total",
        Label::Of("what", &["user", "role", "access", "connection"]),
        "looks that found something else than the database says: must stay 0",
    ),
    // What is held.
    gauge("permcast_floors", Label::None, "floors of users, roles and sessions in memory"),
    gauge("permcast_cache_entries", Label::Of("kind", &["user", "role"]), "entries of the permission cache"),
    counter(
        "permcast_cache_loads_total",
        Label::Of("kind", &["user", "role"]),
        "entries read from the database: a role's change costs one, not one a user",
    ),
    counter(
        "permcast_standby_loads_total",
        Label::Of("outcome", &["used", "behind", "absent", "other_log", "failed"]),
        "entries asked of the standby; whatever was not used was asked of the primary",
    ),
    gauge("permcast_connections", Label::None, "connections, those included that have not said hello yet"),
    gauge("permcast_connections_registered", Label::None, "connections that are told of changes"),
    gauge(
        "permcast_refresh_budget",
        Label::None,
        "refreshes a second over which the clients of a wide change are spread",
    ),
    counter("permcast_connections_closed_total", Label::Free(&["code"]), "connections closed, by close code"),
    counter(
        "permcast_connections_refused_total",
        Label::Of("why", &["total", "rush", "address", "tenant"]),
        "connections for which there was no room: in all, at once, from one address, of one tenant",
    ),
    gauge("permcast_resident_bytes", Label::None, "memory of the process"),
    gauge(
        "permcast_connection_bytes",
        Label::None,
        "memory since it began to serve, by connections: not more than that is one, where there are many",
    ),
    // Who asks.
    counter("permcast_http_requests_total", Label::Free(&["route", "status"]), "requests answered"),
    counter("permcast_http_request_microseconds_total", Label::Free(&["route"]), "time that they took"),
    counter("permcast_sign_ins_refused_total", Label::None, "sign-ins refused"),
    counter("permcast_password_hashes_total", Label::None, "passwords hashed, to be kept or compared"),
    counter("permcast_exchanges_refused_total", Label::None, "exchanges of trusted issuers' tokens refused"),
    counter("permcast_users_provisioned_total", Label::None, "users made because a trusted issuer vouched for them"),
    counter(
        "permcast_issuer_keys_total",
        Label::Of("outcome", &["read", "failed"]),
        "readings of trusted issuers' keys",
    ),
    counter("permcast_refresh_reuse_total", Label::None, "refresh tokens that came back after their time: theft"),
];

impl Metric {
    /// Says what it is, and lets each of its series that is known begin at zero.
    pub(super) fn begin(&self) {
        let series: Vec<Vec<metrics::Label>> = match self.label {
            Label::None => vec![Vec::new()],
            Label::Of(name, values) => values.iter().map(|&value| vec![metrics::Label::new(name, value)]).collect(),
            Label::Free(_) => Vec::new(),
        };
        match self.kind {
            Kind::Counter => {
                metrics::describe_counter!(self.name, Unit::Count, self.help);
                for labels in series {
                    metrics::counter!(self.name, labels).increment(0);
                }
            }
            Kind::Gauge => {
                metrics::describe_gauge!(self.name, self.help);
            }
            Kind::Histogram(_) => {
                metrics::describe_histogram!(self.name, Unit::Seconds, self.help);
                for labels in series {
                    drop(metrics::histogram!(self.name, labels));
                }
            }
        }
    }
}
