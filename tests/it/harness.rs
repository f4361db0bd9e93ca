//! Starts what a test needs on free ports, and ends it with the test.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Nothing here takes this long; what does has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A process that ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

/// Waits for the first line that holds `mark`, and answers what follows it; then goes on reading, lest the writer stall.
fn wait_for_line(output: impl Read + Send + 'static, mark: &'static str) -> String {
    let (found, finding) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once(mark) {
                let _ = found.send(rest.trim().to_owned());
            }
        }
    });
    finding.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no line with {mark:?}"))
}

/// A nats-server.
pub(crate) struct Nats {
    _process: Process,
    pub(crate) address: String,
}

impl Nats {
    pub(crate) fn start() -> Self {
        Self::on("-1")
    }

    /// On a port on which one was before.
    pub(crate) fn on(port: &str) -> Self {
        let mut child = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", port])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nats-server is on the PATH; `make test` fetches it");
        let address = wait_for_line(child.stderr.take().unwrap(), "Listening for client connections on ");
        Self { _process: Process(child), address }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub(crate) fn port(&self) -> String {
        self.address.rsplit_once(':').unwrap().1.to_owned()
    }
}

/// A replica: `permcast serve`.
pub(crate) struct Replica {
    pub(crate) process: Process,
    pub(crate) base: String,
}

/// Replicas over one database, with an operator `ada`.
pub(crate) struct Deployment {
    folder: tempfile::TempDir,
    pub(crate) nats: Option<Nats>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) ada: String,
    http: reqwest::Client,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        self.body
    }

    pub(crate) fn version(&self) -> String {
        self.body["change"]["version"].as_str().unwrap_or_else(|| panic!("no change in {self:?}")).to_owned()
    }
}

impl Deployment {
    /// So many replicas, with a broker or without.
    pub(crate) async fn start(replicas: usize, with_broker: bool) -> Self {
        Self::start_with(replicas, with_broker, &[]).await
    }

    pub(crate) async fn start_with(replicas: usize, with_broker: bool, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut deployment = Self {
            folder,
            nats: with_broker.then(Nats::start),
            replicas: Vec::new(),
            ada: String::new(),
            http: reqwest::Client::builder().timeout(DEADLINE).build().unwrap(),
        };
        for number in 0..replicas {
            deployment.add_replica(&format!("r{number}"), settings);
        }
        deployment.ada = deployment.login(0, "ada").await.0;
        deployment
    }

    pub(crate) fn add_replica(&mut self, id: &str, settings: &[(&str, &str)]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_permcast"));
        command
            .arg("serve")
            .current_dir(self.folder.path())
            .env("PERMCAST_LISTEN", "127.0.0.1:0")
            .env("PERMCAST_DATABASE_URL", format!("sqlite://{}", self.database().display()))
            .env("PERMCAST_REPLICA_ID", id)
            .env("PERMCAST_BOOTSTRAP_USER", "ada")
            .env("PERMCAST_BOOTSTRAP_PASSWORD", PASSWORD)
            .env("PERMCAST_DRAIN_DELAY", "0s")
            .env("PERMCAST_DRAIN_SPREAD", "100ms")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(nats) = &self.nats {
            command.env("PERMCAST_NATS_URL", nats.url());
        }
        let mut child = command.spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let process = Process(child);
        let line = wait_for_line(output, "replica ");
        self.replicas.push(Replica { process, base: line.split_once(' ').unwrap().1.to_owned() });
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("permcast.db")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What somebody with a SQL shell does.
    pub(crate) fn sql(&self, text: &str) -> String {
        let mut shell = Command::new("sqlite3");
        let done = shell.args(["-cmd", ".timeout 5000"]).arg(self.database()).arg(text).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// The head of the log.
    pub(crate) fn head(&self) -> u64 {
        self.sql("SELECT max(seq) FROM changes").parse().unwrap()
    }

    pub(crate) async fn call(
        &self,
        replica: usize,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> Answer {
        self.call_with(replica, method, path, token, body, &[]).await
    }

    pub(crate) async fn call_with(
        &self,
        replica: usize,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.replicas[replica].base));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        Self::answer(request).await
    }

    pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, headers, body }
    }

    pub(crate) fn request(&self, replica: usize, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.replicas[replica].base))
    }

    /// Access and refresh token.
    pub(crate) async fn login(&self, replica: usize, user: &str) -> (String, String) {
        let body = json!({ "username": user, "password": PASSWORD });
        tokens(&self.call(replica, Method::POST, "/v1/login", "", Some(body)).await.ok())
    }

    pub(crate) async fn refresh(&self, replica: usize, refresh_token: &str) -> (String, String) {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        tokens(&Self::answer(self.request(replica, Method::POST, "/oauth/token").form(&form)).await.ok())
    }

    /// What ada does at a replica.
    pub(crate) async fn administer(&self, replica: usize, method: Method, path: &str, body: Option<Value>) -> Answer {
        let path = format!("/v1/tenants/default/{path}");
        self.call(replica, method, &path, &self.ada, body).await
    }

    pub(crate) async fn make_user(&self, id: &str) {
        let body = json!({ "id": id, "password": PASSWORD });
        self.administer(0, Method::POST, "users", Some(body)).await.ok();
    }

    pub(crate) async fn make_role(&self, name: &str, permissions: &[&str]) {
        let body = json!({ "name": name, "permissions": permissions });
        self.administer(0, Method::POST, "roles", Some(body)).await.ok();
    }

    pub(crate) async fn grant(&self, user: &str, role: &str) -> Answer {
        self.administer(0, Method::PUT, &format!("users/{user}/roles/{role}"), None).await
    }

    pub(crate) async fn ready(&self, replica: usize) -> Answer {
        self.call(replica, Method::GET, "/readyz", "", None).await
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until_ready(&self, replica: usize, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let asked = async {
            loop {
                let answer = self.ready(replica).await;
                if wanted(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, asked).await.expect("the replica stands as wanted in time")
    }

    pub(crate) async fn connect(&self, replica: usize, token: &str) -> Socket {
        let url = format!("{}/v1/ws", self.replicas[replica].base.replacen("http", "ws", 1));
        let (stream, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let mut socket = Socket(stream);
        socket.say(&json!({ "type": "hello", "token": token })).await;
        socket
    }

    /// A connection that has been welcomed.
    pub(crate) async fn welcomed(&self, replica: usize, token: &str) -> Socket {
        let mut socket = self.connect(replica, token).await;
        socket.next("welcome").await;
        socket
    }
}

fn tokens(answer: &Value) -> (String, String) {
    let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    (text("access_token"), text("refresh_token"))
}

/// The position of a version.
pub(crate) fn seq(version: &Value) -> u64 {
    version.as_str().and_then(|text| text.split_once('.')).unwrap_or_else(|| panic!("{version}")).1.parse().unwrap()
}

/// A client's connection.
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn message(&mut self) -> Message {
        tokio::time::timeout(DEADLINE, self.0.next()).await.expect("a message in time").unwrap().unwrap()
    }

    /// The next message, which is of this type.
    pub(crate) async fn next(&mut self, kind: &str) -> Value {
        loop {
            match self.message().await {
                Message::Text(text) => {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(value["type"], kind, "{value}");
                    return value;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?} instead of {kind}"),
            }
        }
    }

    /// The code with which the server closes next.
    pub(crate) async fn close_code(&mut self) -> u16 {
        match self.message().await {
            Message::Close(Some(frame)) => u16::from(frame.code),
            other => panic!("{other:?} instead of a close"),
        }
    }

    /// That nothing was said: whatever was pending comes before the answer to a ping.
    pub(crate) async fn is_quiet(&mut self) {
        self.say(&json!({ "type": "ping" })).await;
        self.next("heartbeat").await;
    }

    /// Refreshes, as clients do.
    pub(crate) async fn refreshed(&mut self, token: &str) -> Value {
        self.say(&json!({ "type": "refresh", "token": token })).await;
        self.next("refreshed").await
    }
}
