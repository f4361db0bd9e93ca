//! What operators see: log and metrics.

mod catalog;

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use catalog::{Kind, Label, METRICS, Metric};

use crate::config::LogFormat;

/// How often what histograms have seen is put into their buckets, where nobody reads the metrics meanwhile.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// The process's metrics; recorded from the first call on.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let buckets = METRICS.iter().filter_map(|metric| match metric.kind {
                Kind::Histogram(buckets) => Some((metric.name, buckets)),
                Kind::Counter | Kind::Gauge => None,
            });
            let builder = buckets.fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
                let matcher = Matcher::Full(name.to_owned());
                builder.set_buckets_for_metric(matcher, buckets).expect("the catalogue's histograms have buckets")
            });
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            // Somebody's own recorder stays; ours then shows nothing.
            let _ = metrics::set_global_recorder(recorder);
            METRICS.iter().for_each(Metric::begin);
            handle
        })
        .clone()
}

/// Keeps what histograms have seen from piling up while nobody reads the metrics.
pub async fn tidy_metrics(stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TIDY_EVERY) => metrics().run_upkeep(),
            () = stop.cancelled() => return,
        }
    }
}

/// Writes the log to standard error. Called once, by the binary.
pub fn log(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(colours);
    let _ = match format {
        LogFormat::Text => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
}
