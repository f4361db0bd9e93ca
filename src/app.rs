//! The composition root: from settings to a running replica. The only place that sees every room.

mod first;
mod name;
mod outside;
mod room;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web;

use crate::bus::nats::NatsError;
use crate::cache::{CacheLimits, PermissionCache};
use crate::canary::{self, Canary};
use crate::config::{self, Config};
use crate::domain::limits::{CLOCK_LEEWAY, FLOOR_ENTRIES_MAX, REFRESH_GRACE};
use crate::domain::{Applied, Clock, Floors, InvalidName, Random, Seq};
use crate::feed::{
    Controls, Feed, FeedSettings, FeedTask, Inbox, Peers, Propagation, RollCall, Secrets, announce, expire, retain,
};
use crate::gate::{Gate, OnStale};
use crate::http::client::TrustedProxies;
use crate::http::demo::Demo;
use crate::http::origin::Origins;
use crate::http::server::Door;
use crate::http::tls::{Tls, TlsError};
use crate::http::{self, Services};
use crate::hub::Hub;
use crate::issuer::Issuers;
use crate::protocol::bus::Sealer;
use crate::runtime::{Lifecycle, SystemClock, SystemRandom};
use crate::selfcheck::{self, SelfCheck};
use crate::socket::{self, Deadlines, Sockets};
use crate::store::standby::Standby;
use crate::store::{SEAL_SECRET, Store, StoreError, StoreOptions, WriteError};
use crate::token::{
    GuessLimits, KeyError, KeySet, Mint, PasswordError, PasswordSettings, Passwords, Permissions, SecretError,
    SessionParts, SessionSettings, Sessions, TokenSettings, Vault, VaultError, Verifier, keep_trail, measured_budget,
    rotate_keys,
};

pub(crate) use outside::open_store;
use outside::{open_standby, start_bus};

/// Longest wait of a request for the database.
const STORE_DEADLINE: Duration = Duration::from_secs(5);
/// How often a connection says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// Time for tasks to end once told to.
const JOIN_WITHIN: Duration = Duration::from_secs(10);
/// How long a start waits for the first complete reading of the log; after that it serves, unready.
const FIRST_READ_WITHIN: Duration = Duration::from_secs(30);

/// Why a replica did not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen")]
    Listen(#[source] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot use the signing keys")]
    Keys(#[from] KeyError),
    #[error("cannot use the shared secrets")]
    Secrets(#[from] SecretError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error("cannot ask identity providers")]
    Issuers(#[from] tokio_rustls::rustls::Error),
    #[error("cannot hash passwords")]
    Passwords(#[from] PasswordError),
    #[error("{0}")]
    Setting(String),
    #[error("the first operator was not made")]
    Bootstrap(#[source] WriteError),
}

impl From<InvalidName> for StartError {
    fn from(error: InvalidName) -> Self {
        Self::Setting(error.to_string())
    }
}

/// A running replica.
pub struct App {
    address: SocketAddr,
    scheme: &'static str,
    replica: String,
    drain_delay: Duration,
    lifecycle: Lifecycle,
    store: Arc<dyn Store>,
    standby: Option<Arc<dyn Standby>>,
    sockets: Arc<Sockets>,
    propagation: Arc<Propagation>,
    canary: Canary,
    draining: Arc<AtomicBool>,
    server: ServerHandle,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl App {
    /// Starts a replica on a listener of its own. With `demo`, pages may ask for the demo's sign-ins.
    pub async fn start(config: Config, listener: TcpListener, demo: Option<Demo>) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let lifecycle = Lifecycle::new();
        // Before anything counts.
        let metrics = crate::telemetry::metrics();
        let address = listener.local_addr().map_err(StartError::Listen)?;
        let tls = config.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
        let replica = config.replica_id.clone().unwrap_or_else(|| name::replica_id(&*random));
        let started_at = clock.now();

        let (inbox, outlet) = Inbox::new(Arc::clone(&clock));
        let inbox = Arc::new(inbox);
        let store_options = StoreOptions {
            id_rest: config.refresh_token_ttl,
            refresh_grace: REFRESH_GRACE,
            deadline: STORE_DEADLINE,
            listener: Arc::<Inbox>::clone(&inbox),
        };
        let store = open_store(&config.database, store_options, &clock, &*random).await?;
        let vault = Arc::new(match &config.key_encryption_key {
            Some(key) => Vault::with_key(&key.0)?,
            None => Vault::plain(),
        });
        // Before all else that is read from it: what is put back in between shows itself as another epoch.
        let epoch = store.tail(Seq::MAX).await?.epoch;
        let issuer = first::issuer(&*store, &config, address).await?;
        let settings = TokenSettings {
            audience: config.audience.clone().unwrap_or_else(|| issuer.clone()),
            issuer: issuer.clone(),
            ttl: config.access_token_ttl,
            permissions: parse(&config.token_permissions)?,
        };
        let applied = Arc::new(Applied::new(epoch));
        let floors = Arc::new(Floors::new(u64::from_le_bytes(random.bytes()), FLOOR_ENTRIES_MAX));
        let cache = PermissionCache::new(
            Arc::clone(&store),
            Arc::clone(&floors),
            Arc::clone(&applied),
            Arc::clone(&clock),
            CacheLimits::default(),
        );
        let standby = open_standby(&config.database, &clock)?;
        let cache = Arc::new(match &standby {
            Some(standby) => cache.beside(Arc::clone(standby)),
            None => cache,
        });
        let keys = Arc::new(
            KeySet::open(
                Arc::clone(&store),
                Arc::clone(&vault),
                parse(&config.token_algorithm)?,
                config.access_token_ttl,
                Arc::clone(&clock),
                Arc::clone(&random),
            )
            .await?,
        );
        let hub = Hub::new(Arc::clone(&floors), Arc::clone(&clock), room::limits(&config));
        let refresh_budget = match config.refresh_budget {
            Some(set) => set,
            None => measured_budget(&keys, &*store, config.workers).await?,
        };
        hub.set_refresh_budget(refresh_budget);
        let controls = Arc::new(Controls::new(Arc::clone(&store), Arc::clone(&keys), Arc::clone(&hub)));
        let feed = Feed::new(Arc::clone(&applied), Arc::clone(&clock));
        let peers = Arc::new(Peers::default());
        let propagation = Arc::new(Propagation::new(
            replica.clone(),
            feed.clone(),
            Arc::clone(&hub),
            Arc::clone(&peers),
            Arc::clone(&store),
            Arc::clone(&clock),
            config.max_staleness,
        ));
        let sealer = Sealer::new(&vault.shared_secret(&*store, SEAL_SECRET, &*random).await?);
        let (bus, heard) = start_bus(&config, &replica, sealer, &random, &clock, &lifecycle).await?;
        inbox.publish_over(Arc::clone(&bus), replica.clone());
        let roll_call =
            RollCall::new(replica.clone(), Arc::clone(&hub), Arc::clone(&store), Arc::clone(&bus), Arc::clone(&random));

        let verifier = Arc::new(Verifier::new(
            Arc::clone(&keys),
            Arc::clone(&floors),
            Arc::clone(&applied),
            Arc::clone(&clock),
            &settings,
        ));
        if config.issuers.iter().any(|trusted| trusted.issuer == issuer) {
            return Err(StartError::Setting(format!("issuers: {issuer:?} is this deployment itself")));
        }
        let issuers = Arc::new(Issuers::new(config.issuers.clone(), Arc::clone(&store), Arc::clone(&clock))?);
        let gate = Arc::new(Gate::new(
            Arc::clone(&verifier),
            Arc::clone(&issuers),
            Arc::clone(&floors),
            Arc::clone(&cache),
            feed.clone(),
            Arc::clone(&controls),
            Arc::clone(&clock),
            config.max_staleness,
            match config.on_stale {
                config::OnStale::Deny => OnStale::Deny,
                config::OnStale::Lookup => OnStale::Lookup,
                config::OnStale::Serve => OnStale::Serve,
            },
        ));
        let password_settings = PasswordSettings {
            memory_kib: config.password_memory_kib,
            iterations: config.password_iterations,
            ..PasswordSettings::default()
        };
        let passwords = Arc::new(Passwords::new(password_settings, Arc::clone(&random))?);
        first::bootstrap(&*store, &passwords, &config).await?;
        let parts = SessionParts {
            store: Arc::clone(&store),
            permissions: Arc::clone(&gate) as Arc<dyn Permissions>,
            applied: Arc::clone(&applied),
            mint: Arc::new(Mint::new(Arc::clone(&keys), settings, Arc::clone(&clock), Arc::clone(&random))),
            passwords: Arc::clone(&passwords),
            clock: Arc::clone(&clock),
            random: Arc::clone(&random),
        };
        let session_settings = SessionSettings {
            refresh_ttl: config.refresh_token_ttl,
            idle_ttl: config.session_idle_ttl,
            refresh_budget,
            guesses: GuessLimits::default(),
        };
        let sessions = Arc::new(Sessions::open(parts, &vault, session_settings).await?);
        let sockets = Arc::new(Sockets::new(
            Arc::clone(&gate) as Arc<dyn socket::Authority>,
            Arc::clone(&hub),
            Arc::clone(&floors),
            Arc::clone(&applied),
            Arc::clone(&clock),
            Arc::clone(&random),
            socket::Settings {
                replica: replica.clone(),
                heartbeat: HEARTBEAT,
                reconnect_within: config.drain_spread.max(Duration::from_secs(1)),
            },
            config.access_token_ttl,
            Deadlines { drain: config.drain_spread, ..Deadlines::default() },
        ));

        // The feed first: nothing is answered before the log was read to its end.
        let task = FeedTask {
            settings: FeedSettings {
                poll_interval: config.poll_interval,
                remember: config.access_token_ttl + 2 * CLOCK_LEEWAY,
            },
            feed: feed.clone(),
            store: Arc::clone(&store),
            floors: Arc::clone(&floors),
            cache: Arc::clone(&cache),
            hub: Arc::clone(&hub),
            controls: Arc::clone(&controls),
            peers: Arc::clone(&peers),
            roll_call: Arc::clone(&roll_call),
            propagation: Arc::clone(&propagation),
            outlet,
            random: Arc::clone(&random),
            heard,
        };
        lifecycle.spawn("feed", task.run(lifecycle.token()));
        lifecycle.spawn(
            "announce",
            announce(
                replica.clone(),
                started_at,
                feed.clone(),
                Arc::clone(&hub),
                Arc::clone(&sessions),
                Arc::clone(&store),
                Arc::clone(&bus),
                Arc::clone(&clock),
                lifecycle.token(),
            ),
        );
        let secrets = Secrets {
            store: Arc::clone(&store),
            vault: Arc::clone(&vault),
            random: Arc::clone(&random),
            sessions: Arc::clone(&sessions),
            bus: Arc::clone(&bus),
            issuer: issuer.clone(),
        };
        lifecycle.spawn("secrets", secrets.follow(feed.clone(), epoch, lifecycle.token()));
        let (writing, stop) = (Arc::clone(&store), lifecycle.token());
        lifecycle.spawn("store", async move { _ = stop.run_until_cancelled(writing.ended()).await });
        lifecycle.spawn(
            "expire",
            expire(feed.clone(), Arc::clone(&store), Arc::clone(&clock), Arc::clone(&random), lifecycle.token()),
        );
        if config.audit_rate > 0 {
            let check = SelfCheck {
                store: Arc::clone(&store),
                floors: Arc::clone(&floors),
                cache: Arc::clone(&cache),
                hub: Arc::clone(&hub),
                feed: feed.clone(),
                clock: Arc::clone(&clock),
                random: Arc::clone(&random),
                max_staleness: config.max_staleness,
            };
            lifecycle.spawn("self-check", selfcheck::run(check, config.audit_rate, lifecycle.token()));
        }
        if let Some(keep) = config.log_retention {
            let retaining = retain(Arc::clone(&store), keep, Arc::clone(&random), lifecycle.token());
            lifecycle.spawn("retain-log", retaining);
        }
        if let Some(every) = config.key_rotation {
            let rotating =
                rotate_keys(Arc::clone(&keys), every, Arc::clone(&clock), Arc::clone(&random), lifecycle.token());
            lifecycle.spawn("rotate-keys", rotating);
        }
        lifecycle.spawn("audit", keep_trail(Arc::clone(&sessions), Arc::clone(&store), lifecycle.token()));
        lifecycle.spawn("metrics", crate::telemetry::tidy_metrics(lifecycle.token()));
        lifecycle.spawn("issuers", issuers.keep_keys(lifecycle.token()));
        if tokio::time::timeout(FIRST_READ_WITHIN, feed.confirmed()).await.is_err() {
            tracing::warn!("the log could not be read to its end yet; serving, but not ready");
        }

        let draining = Arc::new(AtomicBool::new(false));
        let services = web::Data::new(Services {
            replica: replica.clone(),
            issuer: issuer.clone(),
            store: Arc::clone(&store),
            gate: Arc::clone(&gate),
            feed: feed.clone(),
            hub: Arc::clone(&hub),
            bus,
            cache,
            peers,
            roll_call,
            propagation: Arc::clone(&propagation),
            keys: Arc::clone(&keys),
            passwords,
            clock: Arc::clone(&clock),
            metrics,
            draining: Arc::clone(&draining),
            started_at,
            resident_at_start: crate::runtime::resident_bytes().unwrap_or_default(),
            demo,
        });
        let origins = web::Data::new(Origins::new(&issuer, config.allowed_origins.iter().map(String::as_str)));
        let proxies = web::Data::new(TrustedProxies(config.trusted_proxies.clone()));
        let (gate, feed, sockets_data) =
            (web::Data::from(gate), web::Data::new(feed), web::Data::from(Arc::clone(&sockets)));
        let canary_sessions = Arc::clone(&sessions);
        let (keys, verifier, sessions) = (web::Data::from(keys), web::Data::from(verifier), web::Data::from(sessions));
        let door = Door {
            sockets: sockets_data.clone(),
            origins: origins.clone(),
            proxies: proxies.clone(),
            services: Some(services.clone()),
        };
        let handed = move |cfg: &mut web::ServiceConfig| {
            cfg.app_data(services.clone())
                .app_data(origins.clone())
                .app_data(proxies.clone())
                .app_data(gate.clone())
                .app_data(feed.clone())
                .app_data(sockets_data.clone())
                .app_data(keys.clone())
                .app_data(verifier.clone())
                .app_data(sessions.clone());
        };
        let itself = tls.as_ref().map(Tls::for_itself).transpose().map_err(TlsError::Provider)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        if let Some(tls) = &tls {
            lifecycle.spawn("certificate", Arc::clone(tls).follow(lifecycle.token()));
        }
        let server = http::server::serve(listener, tls, door, handed, config.workers).map_err(StartError::Listen)?;
        let handle = server.handle();
        let served = tokio::spawn(server);
        let canary = Canary {
            replica: replica.clone(),
            address: name::reachable(address),
            tls: itself,
            store: Arc::clone(&store),
            sessions: canary_sessions,
            propagation: Arc::clone(&propagation),
            clock,
            random,
        };
        if let Some(interval) = config.canary {
            lifecycle.spawn("canary", canary::run(canary.clone(), interval, lifecycle.token()));
        }
        tracing::info!(replica, %address, "serving");
        Ok(Self {
            address,
            scheme,
            replica,
            drain_delay: config.drain_delay,
            lifecycle,
            store,
            standby,
            sockets,
            propagation,
            canary,
            draining,
            server: handle,
            served,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Its name.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// How far each change has come.
    pub fn propagation(&self) -> &Propagation {
        &self.propagation
    }

    /// What measures how soon a change arrives.
    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    /// Ends when a task that it cannot do without has ended; then it is to be stopped.
    pub async fn failed(&self) {
        self.lifecycle.token().cancelled().await;
    }

    /// Stops in order: unready, but accepting for the drain delay; no new connections; sockets told over a spread; the
    /// rest. Tells whether it was a background task's death that made it stop.
    pub async fn stop(self) -> Option<&'static str> {
        self.draining.store(true, Ordering::Release);
        if self.lifecycle.crashed().is_none() {
            tokio::time::sleep(self.drain_delay).await;
        }
        self.server.pause().await;
        self.sockets.drain().await;
        self.server.stop(true).await;
        let _ = self.served.await;
        self.lifecycle.stop();
        if !self.lifecycle.join(JOIN_WITHIN).await {
            tracing::warn!("some tasks did not end in time");
        }
        if let Some(standby) = self.standby {
            standby.close().await;
        }
        self.store.close().await;
        self.lifecycle.crashed()
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, StartError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| StartError::Setting(error.to_string()))
}
