//! The settings as they are written: by flag, by environment, in the file. One list for all three.

use std::path::PathBuf;

use serde::Deserialize;

use super::Faults;
use super::issuers::Issuers;

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty, $env:literal, $value:literal;)+) => {
        /// Every setting, each of them optional.
        #[derive(Clone, Default, clap::Args, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            $($(#[$doc])*
            #[arg(long, env = $env, value_name = $value, hide_env_values = true, global = true)]
            pub $name: Option<$type>,)+
        }

        impl Settings {
            /// These, and where one is not set, that of `other`.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)+ }
            }
        }
    };
}

settings! {
    /// Address of HTTP and WebSocket [default: 127.0.0.1:8080]
    listen: String, "PERMCAST_LISTEN", "ADDRESS";
    /// Certificate for the listener, in PEM with its chain; read again when it changes, or on SIGHUP [default: no TLS]
    tls_cert: PathBuf, "PERMCAST_TLS_CERT", "FILE";
    /// Private key of that certificate, in PEM
    tls_key: PathBuf, "PERMCAST_TLS_KEY", "FILE";
    /// The database: sqlite://<path>, or postgres://<user>@<host>:<port>/<database> [default: sqlite://permcast.db]
    database_url: String, "PERMCAST_DATABASE_URL", "URL";
    /// A file with PostgreSQL's password
    database_password_file: PathBuf, "PERMCAST_DATABASE_PASSWORD_FILE", "FILE";
    /// Connections to PostgreSQL for reading at the most; two more are for writing and for the log [default: 8]
    database_connections: u32, "PERMCAST_DATABASE_CONNECTIONS", "NUMBER";
    /// A standby of PostgreSQL that permissions may be loaded from: postgres://<user>@<host>:<port>/<database>
    database_read_url: String, "PERMCAST_DATABASE_READ_URL", "URL";
    /// The broker, comma-separated for a cluster; unset: one process, no broker
    nats_url: String, "PERMCAST_NATS_URL", "URLS";
    /// Credentials for the broker (JWT and nkey)
    nats_credentials_file: PathBuf, "PERMCAST_NATS_CREDENTIALS_FILE", "FILE";
    /// A file with an nkey seed for the broker
    nats_nkey_file: PathBuf, "PERMCAST_NATS_NKEY_FILE", "FILE";
    /// Certificate authorities of the broker, beside the system's
    nats_tls_ca_file: PathBuf, "PERMCAST_NATS_TLS_CA_FILE", "FILE";
    /// Client certificate for the broker
    nats_tls_cert_file: PathBuf, "PERMCAST_NATS_TLS_CERT_FILE", "FILE";
    /// Key of that certificate
    nats_tls_key_file: PathBuf, "PERMCAST_NATS_TLS_KEY_FILE", "FILE";
    /// Keeps deployments apart on one broker [default: default]
    deployment: String, "PERMCAST_DEPLOYMENT", "NAME";
    /// Name of this process in receipts and metrics [default: random]
    replica_id: String, "PERMCAST_REPLICA_ID", "NAME";
    /// `iss` of tokens and base of discovery; kept in the database at the first start [default: http://<listen>, with tls_cert https://<listen>]
    issuer: String, "PERMCAST_ISSUER", "URL";
    /// `aud` of tokens [default: the issuer]
    audience: String, "PERMCAST_AUDIENCE", "URL";
    /// EdDSA, ES256 or RS256 [default: EdDSA]
    token_algorithm: String, "PERMCAST_TOKEN_ALGORITHM", "NAME";
    /// Whether tokens carry permissions: auto, claims or none [default: auto]
    token_permissions: String, "PERMCAST_TOKEN_PERMISSIONS", "WORD";
    /// Networks whose X-Forwarded-For is believed, comma-separated
    trusted_proxies: String, "PERMCAST_TRUSTED_PROXIES", "NETWORKS";
    /// Browsers' origins beside our own, comma-separated
    allowed_origins: String, "PERMCAST_ALLOWED_ORIGINS", "ORIGINS";
    /// Trusted identity providers: a JSON array; better written as [[issuers]] in the file
    issuers: Issuers, "PERMCAST_ISSUERS", "JSON";
    /// On SIGTERM: unready at once, but accepting for this long [default: 5s]
    drain_delay: String, "PERMCAST_DRAIN_DELAY", "TIME";
    /// Time over which connections are told to come back [default: 2s]
    drain_spread: String, "PERMCAST_DRAIN_SPREAD", "TIME";
    /// Life of an access token [default: 15m]
    access_token_ttl: String, "PERMCAST_ACCESS_TOKEN_TTL", "TIME";
    /// Life of a session [default: 30d]
    refresh_token_ttl: String, "PERMCAST_REFRESH_TOKEN_TTL", "TIME";
    /// A session is over when it was not refreshed for so long [default: the life of a session]
    session_idle_ttl: String, "PERMCAST_SESSION_IDLE_TTL", "TIME";
    /// Signing keys are rotated this often; 0s is never [default: 90d]
    key_rotation: String, "PERMCAST_KEY_ROTATION", "TIME";
    /// Rows of the change log are kept this long, at least 1d; 0s is for ever [default: 0s]
    log_retention: String, "PERMCAST_LOG_RETENTION", "TIME";
    /// Memory that hashing one password takes, in KiB [default: 19456]
    password_memory_kib: u32, "PERMCAST_PASSWORD_MEMORY_KIB", "NUMBER";
    /// Passes over that memory; hashes made with other values are made anew when their user signs in [default: 2]
    password_iterations: u32, "PERMCAST_PASSWORD_ITERATIONS", "NUMBER";
    /// How often the log's tail is read when nothing else wakes the reader [default: 100ms]
    poll_interval: String, "PERMCAST_POLL_INTERVAL", "TIME";
    /// The bound of the guarantee [default: 1s]
    max_staleness: String, "PERMCAST_MAX_STALENESS", "TIME";
    /// Past the bound: deny, lookup or serve [default: deny]
    on_stale: String, "PERMCAST_ON_STALE", "WORD";
    /// The first operator, made in tenant default if no operator exists
    bootstrap_user: String, "PERMCAST_BOOTSTRAP_USER", "USER";
    /// His password; by the environment or the file rather than by a flag
    bootstrap_password: String, "PERMCAST_BOOTSTRAP_PASSWORD", "PASSWORD";
    /// 32 bytes in base64 that seal keys in the database; by the environment or the file rather than by a flag
    key_encryption_key: String, "PERMCAST_KEY_ENCRYPTION_KEY", "KEY";
    /// Token refreshes a second that the whole deployment takes [default: measured at the start]
    refresh_budget: u32, "PERMCAST_REFRESH_BUDGET", "NUMBER";
    /// Connections of this process at the most [default: 100000]
    connections_max: usize, "PERMCAST_CONNECTIONS_MAX", "NUMBER";
    /// Connections of one user at the most [default: 50]
    connections_per_user: usize, "PERMCAST_CONNECTIONS_PER_USER", "NUMBER";
    /// Connections from one address at the most, an IPv6 network of 64 bits being one [default: 5000]
    connections_per_address: usize, "PERMCAST_CONNECTIONS_PER_ADDRESS", "NUMBER";
    /// Connections of one tenant at the most [default: 50000]
    connections_per_tenant: usize, "PERMCAST_CONNECTIONS_PER_TENANT", "NUMBER";
    /// Connections let in a second; more are answered 503 [default: 8000 for each core]
    handshakes_per_second: u32, "PERMCAST_HANDSHAKES_PER_SECOND", "NUMBER";
    /// Threads that serve HTTP [default: the number of cores]
    workers: usize, "PERMCAST_WORKERS", "NUMBER";
    /// Looks a second at whether what is held is what the database says; 0: none [default: 4]
    audit_rate: u32, "PERMCAST_AUDIT_RATE", "NUMBER";
    /// How often the canary measures how soon a change arrives; unset: never
    canary: String, "PERMCAST_CANARY", "TIME";
    /// What is logged, as a tracing filter [default: info]
    log: String, "PERMCAST_LOG", "FILTER";
    /// text or json [default: text]
    log_format: String, "PERMCAST_LOG_FORMAT", "WORD";
}

impl Settings {
    /// Reads the text of a `permcast.toml`.
    pub fn from_toml(text: &str) -> Result<Self, Faults> {
        toml::from_str(text).map_err(|error| Faults(vec![format!("permcast.toml: {error}")]))
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Some of them are secrets.
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}
