//! What is measured, and how each is told to tell its clients.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::ask::Speech;
use super::http::Http;
use super::process::Process;
use super::seed;
use super::testing;

/// A running program with clients that may come.
pub struct Subject {
    pub name: &'static str,
    pub speech: Speech,
    pub process: Process,
    pub way: Way,
    told: u64,
}

/// How it is told.
pub enum Way {
    Permcast { http: Http, operator: String },
    Nats(async_nats::Client),
    Bare,
}

/// Where a run keeps its files, and its database.
pub struct Place {
    pub folder: tempfile::TempDir,
    server: Option<testing::Database>,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: None }
    }

    /// With a database of PostgreSQL.
    pub fn on_server() -> Self {
        Self { server: Some(testing::database()), ..Self::new() }
    }

    pub fn database(&self) -> String {
        match &self.server {
            Some(database) => database.url().to_owned(),
            None => format!("sqlite://{}", self.folder.path().join("permcast.db").display()),
        }
    }

    pub fn tokens(&self) -> PathBuf {
        self.folder.path().join("tokens.json")
    }
}

impl Subject {
    /// permcast with a company of `users`, all of them signed in.
    pub async fn permcast(place: &Place, users: usize, settings: &[(&str, &str)]) -> Self {
        let process = Process::permcast(place, "a", None, settings).await;
        Self::seeded(process, place, users).await
    }

    /// The same, where it can be asked when a change was committed.
    pub async fn observed(place: &Place, users: usize) -> Self {
        let process = Process::observed(place, "a").await;
        Self::seeded(process, place, users).await
    }

    /// One that runs already.
    pub async fn seeded(process: Process, place: &Place, users: usize) -> Self {
        seed::users(&place.database(), users).await;
        seed::tokens(process.address, users, &place.tokens()).await;
        let mut http = Http::new(process.address);
        let operator = seed::sign_in(&mut http, "root").await.access;
        Self { name: "permcast", speech: Speech::Socket, process, way: Way::Permcast { http, operator }, told: 0 }
    }

    pub async fn nats(folder: &Path) -> Self {
        let process = Process::nats(folder).await;
        let client = async_nats::connect(process.also.expect("it has one").to_string()).await.unwrap();
        Self { name: "nats-server", speech: Speech::Nats, process, way: Way::Nats(client), told: 0 }
    }

    pub async fn bare() -> Self {
        Self { name: "bare loop", speech: Speech::Bare, process: Process::bare().await, way: Way::Bare, told: 0 }
    }

    /// From now on it is asked where its process is now.
    pub fn retarget(&mut self) {
        if let Way::Permcast { http, .. } = &mut self.way {
            *http = Http::new(self.process.address);
        }
    }

    /// Tells all who have the role `all`.
    pub async fn tell_all(&mut self) {
        self.told += 1;
        match &mut self.way {
            Way::Permcast { http, operator } => {
                let method = if self.told % 2 == 1 { "PUT" } else { "DELETE" };
                let path = "/v1/tenants/default/roles/all/permissions/invoices:read";
                http.json(method, path, operator, None).await.ok();
            }
            Way::Nats(client) => {
                client.publish("role.all", message(self.told).into()).await.unwrap();
                client.flush().await.unwrap();
            }
            Way::Bare => self.process.say(&message(self.told)).await,
        }
    }
}

/// What permcast says of a role's change, for the others to say.
pub fn message(seq: u64) -> String {
    json!({
        "type": "permissions_changed", "pv": format!("bench000.{seq}"), "reason": "role", "refresh_within_ms": 5000,
        "at": "2026-01-01T00:00:00.000Z",
    })
    .to_string()
}
