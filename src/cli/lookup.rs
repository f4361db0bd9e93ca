//! `permcast doctor`: what stands and what does not.

use super::settings::chain;
use super::{CommandError, Given, open, say};
use crate::bus::nats;
use crate::domain::Seq;
use crate::feed::GONE_AFTER;

/// Checks what a replica would need, one line each; fails where one of them is missing.
pub(super) async fn doctor(given: Given) -> Result<(), CommandError> {
    let (store, config) = open(given).await?;
    say("settings    fit together")?;
    let tail = store.tail(Seq::MAX).await?;
    say(&format!("database    up: {}, epoch {}, {} changes", config.database, tail.epoch, tail.head))?;
    let mut faults = Vec::new();
    if store.has_operator().await? {
        say("operator    there is one")?;
    } else {
        faults.push("operator    none: set PERMCAST_BOOTSTRAP_USER and PERMCAST_BOOTSTRAP_PASSWORD".to_owned());
    }
    if let Some(lockdown) = store.lockdown().await? {
        say(&format!("lockdown    since {}", lockdown.since))?;
    }
    let running = store.replicas(GONE_AFTER).await?;
    let names: Vec<_> = running.iter().map(|replica| replica.id.as_str()).collect();
    say(&format!("replicas    {} running {}", names.len(), names.join(", ")))?;
    for replica in running.iter().filter(|replica| replica.applied < tail.head) {
        say(&format!("            {} had applied {} when it last said so", replica.id, replica.applied))?;
    }
    let probed = match &config.nats {
        Some(broker) => Some(nats::greet(broker, &config.deployment).await),
        None => None,
    };
    match probed {
        None if running.len() > 1 => faults.push(
            "broker      off, with several replicas: changes travel by the log's tail alone, at the poll interval"
                .into(),
        ),
        None => say("broker      off")?,
        Some(Ok(())) => say("broker      up")?,
        Some(Err(error)) => faults.push(format!("broker      down: {}", chain(&error))),
    }
    store.close().await;
    if faults.is_empty() { Ok(()) } else { Err(CommandError::Unwell(faults.join("\n"))) }
}
