//! The bus over NATS. Connects for ever; its absence is never an error of anybody's request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Message, ServerAddr, ServerError, Subscriber,
};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::{Bus, Heard, Hearing, Standing};
use crate::config;
use crate::domain::{Clock, Random, TenantName};
use crate::protocol::bus::{
    ChangesMessage, ReplicaMessage, RollCallMessage, SEAL_HEADER, Sealer, TRACE_HEADER, all_changes_subject,
    changes_subject, connections_subject, hello_subject, replicas_subject, traceparent,
};
use crate::runtime::Lifecycle;

/// Messages that wait for the connection; a burst of commits fits, an outage does not need to.
const OUTBOX_MESSAGES: usize = 4096;
/// Messages that NATS has delivered and we have not read yet.
const SUBSCRIPTION_MESSAGES: usize = 65_536;
/// What else the feed is to hear and has not taken yet: an announcement a second from each replica, and reconnections.
const OTHER_MESSAGES: usize = 4096;
/// Longest wait for one attempt to connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// How often it is looked at whether the connection is of use.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// What NATS says while it is looked at whether it lets us in: at most a refusal for each subject, and of coming and going.
const GREETING_EVENTS: usize = 16;

/// Where NATS is and who we are there.
#[derive(Clone)]
pub struct NatsSettings {
    pub broker: config::Nats,
    /// Keeps deployments apart on one NATS.
    pub deployment: String,
    /// This replica's name.
    pub replica: String,
}

/// Why the bus cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// A file that the settings name.
    #[error("cannot read {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// An address is none. It is not shown, for there may be a password in it.
    #[error("nats_url holds something that is no address of a NATS server")]
    Address,
    /// No server of them answered in time.
    #[error("no NATS server answered in time")]
    Silent,
    /// The client has ended before it began.
    #[error("cannot listen to NATS")]
    Subscribe(#[from] async_nats::SubscribeError),
    /// A server answered, and then went away.
    #[error("the NATS server went away")]
    Gone(#[source] async_nats::client::FlushError),
    /// No connection came about.
    #[error("cannot connect to NATS")]
    Connect(#[source] async_nats::ConnectError),
    /// A server knows us not.
    #[error(
        "NATS does not let this replica in: check the user and password in nats_url, nats_credentials_file or nats_nkey_file"
    )]
    Stranger(#[source] async_nats::ConnectError),
    /// A server knows us, and does not let us do what we must.
    #[error(
        "NATS does not give this replica its rights ({refusal}): it must publish and subscribe on \
         permcast.v1.{deployment}.> (an account for it is in deploy/nats)"
    )]
    Rights { refusal: String, deployment: String },
}

impl NatsError {
    /// Whether the settings are at fault, here or at NATS. Whatever else it is may pass.
    fn is_a_fault_of_settings(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Address | Self::Stranger(_) | Self::Rights { .. })
    }
}

impl From<async_nats::ConnectError> for NatsError {
    fn from(error: async_nats::ConnectError) -> Self {
        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Self::Stranger(error),
            _ => Self::Connect(error),
        }
    }
}

/// The bus over NATS.
pub struct NatsBus {
    deployment: String,
    client: Client,
    sealer: Arc<ArcSwap<Sealer>>,
    random: Arc<dyn Random>,
    link: Arc<Link>,
}

impl NatsBus {
    /// Starts to connect and answers soon, whether NATS is there or not; a NATS that is there and refuses us is an error,
    /// as long as nothing rests on this replica yet. Changes are read from the subscription itself, without a task in between;
    /// what finds no room there or in the queue of the rest is dropped: the tail will show it.
    pub async fn start(
        settings: NatsSettings,
        sealer: Sealer,
        random: Arc<dyn Random>,
        clock: Arc<dyn Clock>,
        lifecycle: &Lifecycle,
    ) -> Result<(Self, Hearing), NatsError> {
        let sealer = Arc::new(ArcSwap::from_pointee(sealer));
        let link = Arc::new(Link::new(clock));
        let (inbox, mut others) = mpsc::channel(OTHER_MESSAGES);
        match greet(&settings.broker, &settings.deployment).await {
            Err(error) if error.is_a_fault_of_settings() => return Err(error),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "NATS is not there yet"),
            Ok(()) => {}
        }
        let client = connect(&settings, Arc::clone(&link), inbox.clone()).await?;
        let changes = client.subscribe(all_changes_subject(&settings.deployment)).await?;
        let replicas = client.subscribe(replicas_subject(&settings.deployment)).await?;
        let calls = client.subscribe(connections_subject(&settings.deployment)).await?;
        let stop = lifecycle.token();
        lifecycle.spawn("nats-out", flush_at_end(client.clone(), stop.clone()));
        let ear = Ear { sealer: Arc::clone(&sealer), own: settings.replica };
        let announced = receive(client.clone(), replicas, ear.clone(), Arc::clone(&link), inbox, stop);
        lifecycle.spawn("nats-in", announced);
        let caller = ear.clone();
        let calls = calls.filter_map(move |message| {
            std::future::ready(caller.open(&message, RollCallMessage::decode).map(Heard::RollCall))
        });
        let changes = changes.filter_map(move |message| std::future::ready(ear.changes(&message)));
        let others = stream::poll_fn(move |context| others.poll_recv(context));
        let hearing = stream::select(changes, stream::select(others, calls)).chain(stream::pending());
        Ok((Self { deployment: settings.deployment, client, sealer, random, link }, Box::pin(hearing)))
    }

    /// Hands a message to the client's own queue, without a task in between: what finds no room there, which is only while
    /// NATS is away, is dropped.
    fn post(&self, subject: String, payload: Vec<u8>) {
        let mut headers = HeaderMap::new();
        let trace = traceparent(self.random.bytes(), self.random.bytes());
        tracing::debug!(trace, subject, "told");
        headers.insert(TRACE_HEADER, trace);
        headers.insert(SEAL_HEADER, self.sealer.load().seal(&subject, &payload));
        let sent = self.client.publish_with_headers(subject, headers, payload.into()).now_or_never();
        if !matches!(sent, Some(Ok(()))) {
            metrics::counter!("permcast_bus_dropped_total", "direction" => "out").increment(1);
        }
    }
}

impl Bus for NatsBus {
    fn publish_changes(&self, message: &ChangesMessage) {
        // One message a tenant, so that others may be let to subscribe to one tenant alone.
        let mut rest = message.changes.as_slice();
        while let Some(first) = rest.first() {
            let tenant: Option<&TenantName> = first.target.tenant();
            let run = rest.iter().take_while(|change| change.target.tenant() == tenant).count();
            let part =
                ChangesMessage { epoch: message.epoch, origin: message.origin.clone(), changes: rest[..run].to_vec() };
            self.post(changes_subject(&self.deployment, tenant), part.encode());
            rest = &rest[run..];
        }
    }

    fn announce(&self, message: &ReplicaMessage) {
        self.post(replicas_subject(&self.deployment), message.encode());
        self.link.asks();
    }

    fn call(&self, message: &RollCallMessage) {
        self.post(connections_subject(&self.deployment), message.encode());
    }

    fn reseal(&self, sealer: Sealer) {
        self.sealer.store(Arc::new(sealer));
    }

    fn standing(&self) -> Standing {
        self.link.standing()
    }
}

async fn connect(settings: &NatsSettings, link: Arc<Link>, inbox: mpsc::Sender<Heard>) -> Result<Client, NatsError> {
    options(&settings.broker)
        .await?
        .name(format!("permcast {}", settings.replica))
        .retry_on_initial_connect()
        .max_reconnects(None)
        .client_capacity(OUTBOX_MESSAGES)
        .subscription_capacity(SUBSCRIPTION_MESSAGES)
        .reconnect_delay_callback(|attempts| {
            let steps = u32::try_from(attempts.min(6)).unwrap_or(6);
            (Duration::from_millis(50) * 2u32.pow(steps)).min(RECONNECT_MAX)
        })
        .event_callback(move |event| {
            let (link, inbox) = (Arc::clone(&link), inbox.clone());
            async move {
                match event {
                    Event::Connected => {
                        link.connected(true);
                        tracing::info!("NATS is connected");
                        // Full: the feed has enough to read, and its tail shows the rest.
                        let _ = inbox.try_send(Heard::Reconnected);
                    }
                    Event::Disconnected | Event::Closed => {
                        link.connected(false);
                        tracing::warn!("NATS is gone; changes arrive by the log's tail until it is back");
                    }
                    Event::SlowConsumer(_) => {
                        metrics::counter!("permcast_bus_dropped_total", "direction" => "in").increment(1);
                        let _ = inbox.try_send(Heard::Reconnected);
                    }
                    other => tracing::warn!(event = %other, "NATS"),
                }
            }
        })
        .connect(addresses(&settings.broker)?)
        .await
        .map_err(NatsError::from)
}

/// Connects once, to see whether a broker lets us in.
pub async fn connect_once(broker: &config::Nats) -> Result<Client, NatsError> {
    let connected = async {
        let client = options(broker).await?.connect(addresses(broker)?).await?;
        client.flush().await.map_err(NatsError::Gone)?;
        Ok(client)
    };
    tokio::time::timeout(CONNECT_DEADLINE, connected).await.unwrap_or(Err(NatsError::Silent))
}

/// Connects once, to see whether a broker lets us say and hear what a replica must.
pub async fn greet(broker: &config::Nats, deployment: &str) -> Result<(), NatsError> {
    let (told, mut events) = mpsc::channel(GREETING_EVENTS);
    let greeting = async {
        let tell = move |event| {
            let told = told.clone();
            async move {
                let _ = told.try_send(event);
            }
        };
        let client = options(broker).await?.event_callback(tell).connect(addresses(broker)?).await?;
        let _changes = client.subscribe(all_changes_subject(deployment)).await?;
        let _replicas = client.subscribe(replicas_subject(deployment)).await?;
        let _calls = client.subscribe(connections_subject(deployment)).await?;
        let hello = hello_subject(deployment);
        let mut echo = client.subscribe(hello.clone()).await?;
        // It fails only where the client has ended, and then nothing comes back.
        let _ = client.publish(hello, Bytes::new()).await;
        let mut heard = false;
        loop {
            tokio::select! {
                // Whatever the server has refused it said before, but that may be on its way to us still.
                _ = echo.next(), if !heard => {
                    heard = true;
                    let _ = client.drain().await;
                }
                event = events.recv() => match event {
                    Some(Event::ServerError(ServerError::Other(refusal))) => {
                        return Err(NatsError::Rights { refusal, deployment: deployment.to_owned() });
                    }
                    Some(Event::Closed) | None if heard => return Ok(()),
                    Some(Event::Disconnected | Event::Closed) | None => return Err(NatsError::Silent),
                    Some(_) => {}
                },
            }
        }
    };
    tokio::time::timeout(CONNECT_DEADLINE, greeting).await.unwrap_or(Err(NatsError::Silent))
}

fn addresses(broker: &config::Nats) -> Result<Vec<ServerAddr>, NatsError> {
    broker.servers.iter().map(|text| text.parse().map_err(|_| NatsError::Address)).collect()
}

/// Who we are there, and whom we believe.
async fn options(broker: &config::Nats) -> Result<ConnectOptions, NatsError> {
    let file_error = |path: &PathBuf| {
        let path = path.clone();
        move |source| NatsError::File { path, source }
    };
    let mut options = ConnectOptions::new().connection_timeout(CONNECT_DEADLINE);
    // The client takes no notice of a user in the address. All servers of a cluster know the same.
    if let Some(server) = addresses(broker)?.iter().find(|server| server.has_user_pass()) {
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = plain(server.username().unwrap_or_default());
        options = match server.password() {
            Some(password) => options.user_and_password(user, plain(password)),
            None => options.token(user),
        };
    }
    if let Some(path) = &broker.credentials_file {
        options = options.credentials_file(path).await.map_err(file_error(path))?;
    }
    if let Some(path) = &broker.nkey_seed_file {
        let seed = std::fs::read_to_string(path).map_err(file_error(path))?;
        options = options.nkey(seed.trim().to_owned());
    }
    if let Some(path) = &broker.tls_ca_file {
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &broker.tls_client {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

/// What was said last is still to be heard.
async fn flush_at_end(client: Client, stop: CancellationToken) {
    stop.cancelled().await;
    let _ = tokio::time::timeout(CONNECT_DEADLINE, client.flush()).await;
}

/// Hears how far the other replicas are, and whether the broker carries what is said.
async fn receive(
    client: Client,
    mut messages: Subscriber,
    ear: Ear,
    link: Arc<Link>,
    inbox: mpsc::Sender<Heard>,
    stop: CancellationToken,
) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            _ = look.tick() => {
                if link.gives_up() {
                    tracing::warn!("NATS does not carry what is said here; connecting anew");
                    // It fails only where the client has ended.
                    let _ = client.force_reconnect().await;
                }
                continue;
            }
            () = stop.cancelled() => return,
        };
        let Some(message) = message else {
            stop.cancelled().await;
            return;
        };
        let Some(said) = ear.open(&message, ReplicaMessage::decode) else { continue };
        if said.id == ear.own {
            link.hears_itself();
        } else if inbox.try_send(Heard::Replica(said)).is_err() {
            metrics::counter!("permcast_bus_dropped_total", "direction" => "in").increment(1);
        }
    }
}

/// Believes what is sealed, and does not listen to itself.
#[derive(Clone)]
struct Ear {
    sealer: Arc<ArcSwap<Sealer>>,
    /// Our own name.
    own: String,
}

impl Ear {
    fn changes(&self, message: &Message) -> Option<Heard> {
        let said = self.open(message, ChangesMessage::decode).filter(|said| said.origin != self.own)?;
        let trace = message.headers.as_ref().and_then(|headers| headers.get(TRACE_HEADER));
        tracing::debug!(trace = trace.map(ToString::to_string), subject = %message.subject, "heard");
        Some(Heard::Changes(said))
    }

    /// Checks the seal and reads the message; `None` for what is not to be believed.
    fn open<T>(&self, message: &Message, decode: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let forged = |why| {
            metrics::counter!("permcast_bus_rejected_total", "why" => why).increment(1);
            tracing::debug!(subject = %message.subject, why, "dropped a message");
        };
        let seal = message.headers.as_ref().and_then(|headers| headers.get(SEAL_HEADER));
        let Some(seal) = seal else {
            forged("unsealed");
            return None;
        };
        if !self.sealer.load().is_valid(seal.as_str(), &message.subject, &message.payload) {
            forged("seal");
            return None;
        }
        let said = decode(&message.payload);
        if said.is_none() {
            forged("unreadable");
        }
        said
    }
}
