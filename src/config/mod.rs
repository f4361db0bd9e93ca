//! The settings: flags over environment over `permcast.toml` over defaults; validated as a whole, all faults listed.

mod database;
mod issuers;
mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use database::{Database, Server};
pub use issuers::{Issuer, TenantRule, is_safe_to_fetch};
pub use settings::Settings;

/// The commented default file; `permcast config` prints it.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// Each look of the self-check is a few reads of the database; more of them would be a load of their own.
const AUDIT_RATE_MAX: u32 = 1000;

/// What `on_stale` may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStale {
    Deny,
    Lookup,
    Serve,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Settings that fit together.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    /// `None`: what is in front of it speaks TLS, if anybody does.
    pub tls: Option<TlsFiles>,
    pub database: Database,
    pub nats: Option<Nats>,
    /// One token of a NATS subject.
    pub deployment: String,
    /// `None`: drawn at start.
    pub replica_id: Option<String>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub token_algorithm: String,
    pub token_permissions: String,
    pub trusted_proxies: Vec<IpNet>,
    pub allowed_origins: Vec<String>,
    pub issuers: Vec<Issuer>,
    pub drain_delay: Duration,
    pub drain_spread: Duration,
    pub access_token_ttl: Duration,
    pub refresh_token_ttl: Duration,
    pub session_idle_ttl: Duration,
    /// `None`: only when somebody asks for it.
    pub key_rotation: Option<Duration>,
    /// How long rows of the log are kept; `None`: for ever.
    pub log_retention: Option<Duration>,
    pub password_memory_kib: u32,
    pub password_iterations: u32,
    pub poll_interval: Duration,
    pub max_staleness: Duration,
    pub on_stale: OnStale,
    pub bootstrap: Option<Bootstrap>,
    /// 32 bytes in base64.
    pub key_encryption_key: Option<Secret>,
    pub refresh_budget: Option<u32>,
    pub connections_max: usize,
    pub connections_per_user: usize,
    pub connections_per_address: usize,
    pub connections_per_tenant: usize,
    /// `None`: by the number of cores.
    pub handshakes_per_second: Option<u32>,
    pub workers: Option<usize>,
    /// Looks of the self-check a second; 0: none.
    pub audit_rate: u32,
    /// The interval of the canary; `None`: there is none.
    pub canary: Option<Duration>,
    pub log: String,
    pub log_format: LogFormat,
}

/// The listener's certificate.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain in PEM, its own certificate first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

/// The broker.
#[derive(Clone)]
pub struct Nats {
    /// Addresses; a user and his password may be in them.
    pub servers: Vec<String>,
    pub credentials_file: Option<PathBuf>,
    pub nkey_seed_file: Option<PathBuf>,
    pub tls_ca_file: Option<PathBuf>,
    pub tls_client: Option<(PathBuf, PathBuf)>,
}

impl std::fmt::Debug for Nats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats").field("servers", &self.servers.len()).finish_non_exhaustive()
    }
}

/// The first operator.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    pub user: String,
    pub password: Secret,
}

/// Every fault of the settings, each with the name of its setting.
#[derive(Debug, thiserror::Error)]
#[error("the settings cannot be used:\n  {}", .0.join("\n  "))]
pub struct Faults(pub Vec<String>);

/// The least time that rows of the log are kept: a token of a trusted issuer may have been made before its bearer's sessions were
/// ended, and the row tells when that was.
const LOG_KEPT_MIN: Duration = Duration::from_hours(24);

impl Config {
    /// Checks all settings, each by itself and against each other.
    pub fn new(settings: Settings) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let config = Checker { faults: &mut faults }.check(settings);
        if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
    }
}

struct Checker<'a> {
    faults: &'a mut Vec<String>,
}

impl Checker<'_> {
    fn fault(&mut self, name: &str, what: impl std::fmt::Display) {
        self.faults.push(format!("{name}: {what}"));
    }

    fn duration(&mut self, name: &str, text: Option<String>, default: Duration) -> Duration {
        match text.map(|text| humantime::parse_duration(&text)) {
            None => default,
            Some(Ok(duration)) => duration,
            Some(Err(error)) => {
                self.fault(name, format_args!("{error}; write it as 250ms, 5s, 15m, 30d"));
                default
            }
        }
    }

    fn one_of<T: Copy>(&mut self, name: &str, text: Option<&str>, choices: &[(&str, T)]) -> T {
        let Some(text) = text else { return choices[0].1 };
        if let Some(choice) = choices.iter().find(|(word, _)| *word == text) {
            return choice.1;
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.fault(name, format_args!("{text:?} is none of {}", words.join(", ")));
        choices[0].1
    }

    fn check(mut self, settings: Settings) -> Config {
        let seconds = Duration::from_secs;
        let s = settings;
        let listen = s.listen.as_deref().unwrap_or("127.0.0.1:8080").parse().unwrap_or_else(|_| {
            self.fault("listen", "an address and a port, such as 127.0.0.1:8080");
            SocketAddr::from(([127, 0, 0, 1], 8080))
        });
        let tls = match (s.tls_cert, s.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            _ => {
                self.fault("tls_cert", "goes with tls_key");
                None
            }
        };
        let address = s.database_url.as_deref().unwrap_or("sqlite://permcast.db");
        let mut database = Database::new(address, s.database_password_file.as_deref(), s.database_connections);
        if let Some(standby) = &s.database_read_url {
            database = database.and_then(|it| it.beside(standby, s.database_password_file.as_deref()));
        }
        let database = database.unwrap_or_else(|fault| {
            self.faults.push(fault);
            Database::File(String::new())
        });
        let deployment = s.deployment.unwrap_or_else(|| "default".to_owned());
        if deployment.parse::<crate::domain::TenantName>().is_err() {
            self.fault("deployment", "1 to 63 of a-z 0-9 _ -");
        }
        if s.replica_id.as_ref().is_some_and(|id| !is_replica_id(id)) {
            self.fault("replica_id", "1 to 64 of A-Z a-z 0-9 . _ -");
        }
        for (name, url) in [("issuer", &s.issuer), ("audience", &s.audience)] {
            if name == "issuer" && url.as_ref().is_some_and(|url| !is_issuer(url)) {
                self.fault(name, "an http or https URL without query, fragment and trailing slash");
            }
        }
        let allowed_origins: Vec<String> = list(s.allowed_origins.as_deref());
        for origin in &allowed_origins {
            if !url::Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == *origin) {
                self.fault("allowed_origins", format_args!("{origin:?} is no origin, such as https://app.example.com"));
            }
        }
        let mut trusted_proxies = Vec::new();
        for network in list(s.trusted_proxies.as_deref()) {
            match network.parse::<IpNet>().or_else(|_| network.parse::<std::net::IpAddr>().map(IpNet::from)) {
                Ok(network) => trusted_proxies.push(network),
                Err(_) => self.fault("trusted_proxies", format_args!("{network:?} is no network, such as 10.0.0.0/8")),
            }
        }
        let issuers = issuers::check(s.issuers.unwrap_or_default().0, &mut |what| self.fault("issuers", what));
        let nats = self.nats(
            s.nats_url.as_deref(),
            s.nats_credentials_file,
            s.nats_nkey_file,
            s.nats_tls_ca_file,
            (s.nats_tls_cert_file, s.nats_tls_key_file),
        );
        let bootstrap = match (s.bootstrap_user, s.bootstrap_password) {
            (None, None) => None,
            (Some(user), Some(password)) => {
                if user.parse::<crate::domain::UserId>().is_err() {
                    self.fault("bootstrap_user", "no user id");
                }
                Some(Bootstrap { user, password: Secret(password) })
            }
            _ => {
                self.fault("bootstrap_user", "goes with bootstrap_password");
                None
            }
        };
        let refresh_token_ttl = self.duration("refresh_token_ttl", s.refresh_token_ttl, seconds(30 * 24 * 3600));
        let log_retention = self.duration("log_retention", s.log_retention, Duration::ZERO);
        let key_rotation = self.duration("key_rotation", s.key_rotation, seconds(90 * 24 * 3600));
        let config = Config {
            listen,
            tls,
            database,
            nats,
            deployment,
            replica_id: s.replica_id,
            issuer: s.issuer,
            audience: s.audience,
            token_algorithm: self
                .one_of(
                    "token_algorithm",
                    s.token_algorithm.as_deref(),
                    &[("EdDSA", "EdDSA"), ("ES256", "ES256"), ("RS256", "RS256")],
                )
                .to_owned(),
            token_permissions: self
                .one_of(
                    "token_permissions",
                    s.token_permissions.as_deref(),
                    &[("auto", "auto"), ("claims", "claims"), ("none", "none")],
                )
                .to_owned(),
            trusted_proxies,
            allowed_origins,
            issuers,
            drain_delay: self.duration("drain_delay", s.drain_delay, seconds(5)),
            drain_spread: self.duration("drain_spread", s.drain_spread, seconds(2)),
            access_token_ttl: self.duration("access_token_ttl", s.access_token_ttl, seconds(15 * 60)),
            refresh_token_ttl,
            session_idle_ttl: self.duration("session_idle_ttl", s.session_idle_ttl, refresh_token_ttl),
            key_rotation: Some(key_rotation).filter(|every| !every.is_zero()),
            log_retention: Some(log_retention).filter(|keep| !keep.is_zero()),
            password_memory_kib: s.password_memory_kib.unwrap_or(19_456),
            password_iterations: s.password_iterations.unwrap_or(2),
            poll_interval: self.duration("poll_interval", s.poll_interval, Duration::from_millis(100)),
            max_staleness: self.duration("max_staleness", s.max_staleness, seconds(1)),
            on_stale: self.one_of(
                "on_stale",
                s.on_stale.as_deref(),
                &[("deny", OnStale::Deny), ("lookup", OnStale::Lookup), ("serve", OnStale::Serve)],
            ),
            bootstrap,
            key_encryption_key: s.key_encryption_key.map(Secret),
            refresh_budget: s.refresh_budget,
            connections_max: s.connections_max.unwrap_or(100_000),
            connections_per_user: s.connections_per_user.unwrap_or(50),
            connections_per_address: s.connections_per_address.unwrap_or(5_000),
            connections_per_tenant: s.connections_per_tenant.unwrap_or(50_000),
            handshakes_per_second: s.handshakes_per_second,
            workers: s.workers,
            audit_rate: s.audit_rate.unwrap_or(4),
            canary: s.canary.map(|text| self.duration("canary", Some(text), seconds(5))),
            log: s.log.unwrap_or_else(|| "info,async_nats=warn,actix_server=warn".to_owned()),
            log_format: self.one_of(
                "log_format",
                s.log_format.as_deref(),
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            ),
        };
        self.check_together(&config);
        config
    }

    fn check_together(&mut self, config: &Config) {
        if config.poll_interval < Duration::from_millis(1) {
            self.fault("poll_interval", "at least 1ms");
        }
        if config.max_staleness < config.poll_interval * 2 {
            self.fault("max_staleness", "at least twice poll_interval, else every replica is always beyond it");
        }
        if config.access_token_ttl < Duration::from_secs(10) {
            self.fault("access_token_ttl", "at least 10s: clocks may differ by 5s");
        }
        if config.refresh_token_ttl < config.access_token_ttl {
            self.fault("refresh_token_ttl", "not shorter than access_token_ttl");
        }
        if config.session_idle_ttl < config.access_token_ttl || config.session_idle_ttl > config.refresh_token_ttl {
            self.fault("session_idle_ttl", "from access_token_ttl to refresh_token_ttl");
        }
        if config.key_rotation.is_some_and(|every| every < config.access_token_ttl * 2) {
            self.fault("key_rotation", "at least twice access_token_ttl, or 0s for never");
        }
        let least = LOG_KEPT_MIN.max(config.access_token_ttl * 2);
        if config.log_retention.is_some_and(|keep| keep < least) {
            self.fault("log_retention", "at least 1d and twice access_token_ttl, or 0s for ever");
        }
        // The least that OWASP's cheat sheet has is 7 MiB with 5 passes; beyond 4 GiB it is a mistake.
        if !(7_168..=4_194_304).contains(&config.password_memory_kib)
            || !(1..=100).contains(&config.password_iterations)
        {
            self.fault("password_memory_kib, password_iterations", "7168 to 4194304, and 1 to 100");
        }
        for (name, count) in [
            ("connections_max", config.connections_max),
            ("connections_per_user", config.connections_per_user),
            ("connections_per_address", config.connections_per_address),
            ("connections_per_tenant", config.connections_per_tenant),
        ] {
            if count == 0 {
                self.fault(name, "at least 1");
            }
        }
        if config.canary.is_some_and(|interval| interval < Duration::from_millis(100)) {
            self.fault("canary", "at least 100ms: each probe is a change in the log");
        }
        if config.audit_rate > AUDIT_RATE_MAX {
            self.fault("audit_rate", format_args!("at most {AUDIT_RATE_MAX}"));
        }
        if config.workers == Some(0) || config.refresh_budget == Some(0) || config.handshakes_per_second == Some(0) {
            self.fault("workers, refresh_budget, handshakes_per_second", "at least 1");
        }
    }

    fn nats(
        &mut self,
        url: Option<&str>,
        credentials_file: Option<PathBuf>,
        nkey_seed_file: Option<PathBuf>,
        tls_ca_file: Option<PathBuf>,
        tls_client: (Option<PathBuf>, Option<PathBuf>),
    ) -> Option<Nats> {
        let servers = list(url);
        if servers.is_empty() {
            return None;
        }
        for server in &servers {
            if !server.parse::<async_nats::ServerAddr>().is_ok_and(|server| !server.host().is_empty()) {
                // Without the text, for there may be a password in it.
                self.fault("nats_url", "one or more of nats://<host>:<port> or tls://<host>:<port>, comma-separated");
            }
        }
        let tls_client = match tls_client {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                self.fault("nats_tls_cert_file", "goes with nats_tls_key_file");
                None
            }
        };
        Some(Nats { servers, credentials_file, nkey_seed_file, tls_ca_file, tls_client })
    }
}

fn list(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn is_replica_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_issuer(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
            && !text.ends_with('/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_says_what_the_defaults_are() {
        let uncommented: Vec<_> = DEFAULT_FILE.lines().filter_map(|line| line.strip_prefix("#:")).collect();
        let written = Config::new(Settings::from_toml(&uncommented.join("\n")).unwrap()).unwrap();
        let default = Config::new(Settings::default()).unwrap();
        assert_eq!(format!("{written:?}"), format!("{default:?}"));
    }

    #[test]
    fn the_default_file_has_every_setting() {
        let arguments = <Settings as clap::Args>::augment_args(clap::Command::new("permcast"));
        let names = arguments.get_arguments().map(|argument| argument.get_id().as_str());
        let said = |name: &str| {
            let forms = [format!("\n#:{name} ="), format!("\n# {name} ="), format!("\n# [[{name}]]")];
            forms.iter().any(|form| DEFAULT_FILE.contains(form))
        };
        let missing: Vec<_> = names.filter(|name| !said(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn all_faults_are_listed_at_once() {
        let settings = Settings {
            listen: Some("nowhere".into()),
            poll_interval: Some("2s".into()),
            on_stale: Some("panic".into()),
            bootstrap_user: Some("ada".into()),
            tls_key: Some("key.pem".into()),
            ..Settings::default()
        };
        let Faults(faults) = Config::new(settings).unwrap_err();
        for name in ["listen", "tls_cert", "max_staleness", "on_stale", "bootstrap_user"] {
            assert!(faults.iter().any(|fault| fault.starts_with(name)), "{name} in {faults:?}");
        }
    }

    #[test]
    fn a_flag_beats_the_file() {
        let file = Settings::from_toml("listen = \"127.0.0.1:1\"\ndeployment = \"file\"").unwrap();
        let flags = Settings { listen: Some("127.0.0.1:2".into()), ..Settings::default() };
        let config = Config::new(flags.or(file)).unwrap();
        assert_eq!((config.listen.port(), config.deployment.as_str()), (2, "file"));
        assert!(Settings::from_toml("listne = 1").is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = Settings {
            bootstrap_user: Some("ada".into()),
            bootstrap_password: Some("hunter2".into()),
            key_encryption_key: Some("sesame".into()),
            nats_url: Some("nats://permcast:mellon@localhost:4222".into()),
            ..Settings::default()
        };
        let faulty = Settings { nats_url: Some("nats://permcast:mellon@:x".into()), ..Settings::default() };
        let shown = format!("{:?} {:?} {:?}", settings.clone(), Config::new(settings).unwrap(), Config::new(faulty));
        for secret in ["hunter2", "sesame", "mellon"] {
            assert!(!shown.contains(secret), "{secret}");
        }
    }
}
