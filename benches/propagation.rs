//! From a commit on one replica to the frame at a client of the other, beside what the network alone takes: NATS
//! publish → receive plus a write to a loopback WebSocket. Two processes, a real nats-server, one SQLite file, or a
//! PostgreSQL server.
//!
//! `cargo bench --bench propagation [changes] [postgres]`; needs `nats-server` on the PATH.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, missing_docs)]

#[path = "../src/store/postgres/testing.rs"]
mod testing;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use permcast::app::App;
use permcast::config::{Config, Settings};
use permcast::domain::{Clock as _, Version};
use permcast::runtime::SystemClock;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program and waits for the line that holds `mark`; answers what follows it.
fn start(command: &mut Command, from_stderr: bool, mark: &str) -> (Killed, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output: Box<dyn std::io::Read + Send> =
        if from_stderr { Box::new(child.stderr.take().unwrap()) } else { Box::new(child.stdout.take().unwrap()) };
    let child = Killed(child);
    let mut lines = BufReader::new(output).lines();
    let found = lines.find_map(|line| line.unwrap().split_once(mark).map(|(_, rest)| rest.trim().to_owned())).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    (child, found)
}

fn row(name: &str, times: &Histogram<u64>) {
    let micros = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    println!("{name:<58}{:>10.0}{:>10.0}{:>10.0}", micros(0.5), micros(0.99), micros(0.999));
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
}

async fn call(client: &reqwest::Client, method: reqwest::Method, url: &str, token: &str, body: Option<Value>) -> Value {
    let mut request = client.request(method, url).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{url}: {}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

/// Access and refresh token.
async fn login(client: &reqwest::Client, base: &str, user: &str) -> (String, String) {
    let body = json!({ "username": user, "password": "a bench password" });
    let answer: Value = client.post(format!("{base}/v1/login")).json(&body).send().await.unwrap().json().await.unwrap();
    let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    (text("access_token"), text("refresh_token"))
}

async fn next_of(
    socket: &mut (impl futures_util::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
    kind: &str,
) -> Value {
    loop {
        let message = socket.next().await.unwrap().unwrap();
        if let Message::Text(text) = message {
            let value: Value = serde_json::from_str(&text).unwrap();
            if value["type"] == kind {
                return value;
            }
        }
    }
}

/// What the network takes alone: one task hears it from NATS and writes it to a WebSocket.
async fn floor(nats: &str, count: u32) -> Histogram<u64> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hears = async_nats::connect(nats).await.unwrap();
    let mut heard = hears.subscribe("floor").await.unwrap();
    hears.flush().await.unwrap();
    let relay = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(message) = heard.next().await {
            let text = String::from_utf8(message.payload.to_vec()).unwrap();
            if socket.send(Message::text(text)).await.is_err() {
                return;
            }
        }
    });
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}")).await.unwrap();
    let says = async_nats::connect(nats).await.unwrap();
    let mut times = histogram();
    for number in 0..count {
        let begun = Instant::now();
        says.publish("floor", format!("{{\"seq\":{number},\"padding\":\"{}\"}}", "x".repeat(180)).into())
            .await
            .unwrap();
        socket.next().await.unwrap().unwrap();
        times.record(u64::try_from(begun.elapsed().as_nanos()).unwrap()).unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    relay.abort();
    times
}

#[tokio::main]
async fn main() {
    // A connection may say 256 things in a burst: one hello, and a refresh after each change.
    let count: u32 = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(250);
    let (_nats, at) = start(
        Command::new("nats-server").args(["--addr", "127.0.0.1", "--port", "-1"]),
        true,
        "Listening for client connections on ",
    );
    let nats = format!("nats://{at}");
    let floor_times = floor(&nats, count).await;

    let folder = tempfile::tempdir().unwrap();
    let server = std::env::args().any(|argument| argument == "postgres").then(testing::database);
    let database = match &server {
        Some(database) => database.url().to_owned(),
        None => format!("sqlite://{}/bench.db", folder.path().display()),
    };
    let settings = Settings {
        listen: Some("127.0.0.1:0".into()),
        database_url: Some(database.clone()),
        nats_url: Some(nats.clone()),
        bootstrap_user: Some("ada".into()),
        bootstrap_password: Some("a bench password".into()),
        drain_delay: Some("0s".into()),
        ..Settings::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = App::start(Config::new(settings).unwrap(), listener, None).await.unwrap();
    let here = format!("http://{}", app.address());
    let (other, there) = start(
        Command::new(env!("CARGO_BIN_EXE_permcast"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"])
            .args(["--database-url", &database, "--nats-url", &nats, "--replica-id", "other"]),
        false,
        "replica other ",
    );

    let client = reqwest::Client::new();
    let (ada, _) = login(&client, &here, "ada").await;
    let users = format!("{here}/v1/tenants/default/users");
    let ben = json!({ "id": "ben", "password": "a bench password" });
    call(&client, reqwest::Method::POST, &users, &ada, Some(ben)).await;
    let plain = client.clone();
    let (token, mut refresh_token) = login(&client, &there, "ben").await;
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("{}/v1/ws", there.replace("http", "ws"))).await.unwrap();
    socket.send(Message::text(json!({ "type": "hello", "token": token }).to_string())).await.unwrap();
    next_of(&mut socket, "welcome").await;

    let clock = SystemClock;
    let (mut from_commit, mut from_request) = (histogram(), histogram());
    let grant = format!("{users}/ben/permissions/invoices:read");
    for number in 0..count {
        let method = if number % 2 == 0 { reqwest::Method::PUT } else { reqwest::Method::DELETE };
        let begun = clock.boottime();
        let (client, grant, ada) = (client.clone(), grant.clone(), ada.clone());
        let change = tokio::spawn(async move { call(&client, method, &grant, &ada, None).await });
        let frame = next_of(&mut socket, "permissions_changed").await;
        let arrived = clock.boottime();
        change.await.unwrap();
        let version: Version = frame["pv"].as_str().unwrap().parse().unwrap();
        let committed = app.propagation().learnt(version.seq).unwrap();
        let nanos = |since| u64::try_from(arrived.since(since).as_nanos()).unwrap().max(1);
        from_commit.record(nanos(committed)).unwrap();
        from_request.record(nanos(begun)).unwrap();
        // As clients do: a fresh token for the connection.
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.as_str())];
        let refreshed: Value =
            plain.post(format!("{there}/oauth/token")).form(&form).send().await.unwrap().json().await.unwrap();
        refresh_token = refreshed["refresh_token"].as_str().unwrap_or_else(|| panic!("{refreshed}")).to_owned();
        let refresh = json!({ "type": "refresh", "token": refreshed["access_token"] });
        socket.send(Message::text(refresh.to_string())).await.unwrap();
        next_of(&mut socket, "refreshed").await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    println!("{:<58}{:>10}{:>10}{:>10}", format!("{count} changes of one user, µs"), "p50", "p99", "p99.9");
    row("floor: NATS publish → receive, then a loopback WebSocket", &floor_times);
    row("commit → frame at a client of the other replica", &from_commit);
    row("request → frame (the durable commit in it)", &from_request);
    let ratio = from_commit.value_at_quantile(0.5) as f64 / floor_times.value_at_quantile(0.5) as f64;
    println!("commit → frame is {ratio:.2} × the floor at the median");
    app.stop().await;
    // Nobody is at it any more when it goes.
    drop(other);
}
