//! A company of as many users as there are connections, three roles each, and their sign-ins.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use permcast::runtime::SystemRandom;
use permcast::token::{PasswordSettings, Passwords};
use serde_json::json;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::ask::Tokens;
use super::http::Http;

/// Everybody's.
pub const PASSWORD: &str = "a bench password";
/// Memory in KiB and iterations of a password's hash: the least that the server takes.
pub const HASH: (u32, u32) = (7_168, 1);
/// Sign-ins at once; more than the server hashes at once are refused.
const SIGN_INS: usize = 32;

/// Writes the users past the server, as a shell would; their changes are logged by the database.
pub async fn users(database: &str, count: usize) {
    let cheap = PasswordSettings { memory_kib: HASH.0, iterations: HASH.1, ..PasswordSettings::default() };
    let passwords = Passwords::new(cheap, Arc::new(SystemRandom)).unwrap();
    let hash = passwords.hash(PASSWORD.to_owned()).await.unwrap().0;
    let begin = if database.starts_with("sqlite:") { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let script = format!(
        "{begin};
         CREATE TEMP TABLE n AS WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {count} - 1) SELECT n FROM n;
         INSERT INTO roles (tenant, name) SELECT 1, 'team-' || n FROM n WHERE n < 100;
         INSERT INTO roles (tenant, name) SELECT 1, 'kind-' || n FROM n WHERE n < 10;
         INSERT INTO roles (tenant, name) VALUES (1, 'all');
         INSERT INTO users (tenant, id, password) SELECT 1, 'u' || n, '{hash}' FROM n;
         INSERT INTO user_roles (\"user\", role)
         SELECT u.no, r.no FROM n
         JOIN users u ON u.tenant = 1 AND u.id = 'u' || n
         JOIN roles r ON r.tenant = 1 AND r.name IN ('all', 'team-' || (n % 100), 'kind-' || (n % 10));
         COMMIT;"
    );
    let script = sqlx::raw_sql(sqlx::AssertSqlSafe(script));
    if database.starts_with("sqlite:") {
        let options = database.parse::<SqliteConnectOptions>().unwrap().busy_timeout(Duration::from_secs(20));
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        script.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(database).await.unwrap();
        script.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// Signs one in.
pub async fn sign_in(http: &mut Http, user: &str) -> Tokens {
    let body = json!({ "username": user, "password": PASSWORD });
    let mut answer = http.json("POST", "/v1/login", "", Some(&body)).await;
    // A replica that is still reading what was written past it says so.
    for _ in 0..30 {
        let Some(wait) = answer.retry_after.filter(|_| answer.status == 503) else { break };
        tokio::time::sleep(wait).await;
        answer = http.json("POST", "/v1/login", "", Some(&body)).await;
    }
    let answer = answer.ok().json();
    let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    Tokens { access: text("access_token"), refresh: text("refresh_token") }
}

/// Signs them all in, and leaves their tokens in a file.
pub async fn tokens(server: SocketAddr, count: usize, file: &Path) {
    let part = async |first: usize| {
        let mut http = Http::new(server);
        let mut tokens = Vec::new();
        for number in (first..count).step_by(SIGN_INS) {
            tokens.push((number, sign_in(&mut http, &format!("u{number}")).await));
        }
        tokens
    };
    let mut all = futures_util::future::join_all((0..SIGN_INS).map(part)).await.concat();
    all.sort_unstable_by_key(|(number, _)| *number);
    let tokens: Vec<_> = all.into_iter().map(|(_, tokens)| tokens).collect();
    std::fs::write(file, serde_json::to_vec(&tokens).unwrap()).unwrap();
}
