//! What a replica needs of others: the database, a standby of it, the broker.

use std::sync::Arc;

use crate::bus::nats::{NatsBus, NatsError, NatsSettings};
use crate::bus::{Bus, Hearing, NoBus};
use crate::config::{Config, Database, Server};
use crate::domain::{Clock, Random};
use crate::protocol::bus::Sealer;
use crate::runtime::Lifecycle;
use crate::store::postgres::{PostgresStandby, PostgresStore};
use crate::store::sqlite::SqliteStore;
use crate::store::standby::Standby;
use crate::store::{Store, StoreError, StoreOptions};

/// Opens the database that the settings name.
pub(crate) async fn open_store(
    database: &Database,
    options: StoreOptions,
    clock: &Arc<dyn Clock>,
    random: &dyn Random,
) -> Result<Arc<dyn Store>, StoreError> {
    let clock = Arc::clone(clock);
    Ok(match database {
        Database::File(address) => Arc::new(SqliteStore::open(address, options, clock, random).await?),
        Database::Server(Server { url, connections, .. }) => {
            Arc::new(PostgresStore::open(url, *connections, options, clock, random).await?)
        }
    })
}

/// The standby that the settings name, if they do.
pub(super) fn open_standby(
    database: &Database,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<dyn Standby>>, StoreError> {
    let Database::Server(Server { connections, standby: Some(url), .. }) = database else { return Ok(None) };
    Ok(Some(Arc::new(PostgresStandby::new(url, *connections, Arc::clone(clock))?)))
}

/// The broker that the settings name; without one, what is heard is nothing.
pub(super) async fn start_bus(
    config: &Config,
    replica: &str,
    sealer: Sealer,
    random: &Arc<dyn Random>,
    clock: &Arc<dyn Clock>,
    lifecycle: &Lifecycle,
) -> Result<(Arc<dyn Bus>, Hearing), NatsError> {
    let Some(nats) = &config.nats else {
        return Ok((Arc::new(NoBus), NoBus::hearing()));
    };
    let (broker, deployment) = (nats.clone(), config.deployment.clone());
    let settings = NatsSettings { broker, deployment, replica: replica.to_owned() };
    let (bus, heard) = NatsBus::start(settings, sealer, Arc::clone(random), Arc::clone(clock), lifecycle).await?;
    Ok((Arc::new(bus), heard))
}
