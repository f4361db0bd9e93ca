//! Those who are connected and want to be told: by WebSocket and by server-sent events. They come and go.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_util::sync::CancellationToken;

use super::history::{Connection, user_name};
use super::people::{Person, Token};
use super::rng::Rng;
use super::world::{REPLICAS, USERS, World};

/// Longest stay of a client, in milliseconds.
const STAY: u64 = 8000;
/// Longest pause before a refresh, whatever the server allows, and between two stays.
const PAUSE: u64 = 200;
/// Longest wait for a handshake, and for a message to be sent.
const WITHIN: Duration = Duration::from_secs(4);

type Renewal<'a> = Pin<Box<dyn Future<Output = Option<Arc<Token>>> + Send + 'a>>;

/// One client, who is somebody else each time that he comes, until he is told to stop.
pub(crate) async fn client(world: Arc<World>, mut rng: Rng, stop: CancellationToken) {
    let people: Vec<_> = (0..USERS).map(|user| Person::new(user_name(user))).collect();
    // Of few users only, for each first time is a sign-in.
    let first = rng.index(people.len());
    while !stop.is_cancelled() {
        world.pause(&mut rng, PAUSE).await;
        let (replica, person) = (rng.index(REPLICAS), &people[(first + rng.index(3)) % people.len()]);
        let Some(current) = person.token(&world, replica).await else { continue };
        // He may have been away with an old one.
        let token = if rng.once_in(4) { person.former(0).unwrap_or(current) } else { current };
        let stay = world.now() + Duration::from_millis(rng.below(STAY));
        let connection = if rng.once_in(3) {
            by_events(&world, replica, &token, stay, &stop, &mut rng).await
        } else {
            by_socket(&world, replica, person, token, stay, &stop, &mut rng).await
        };
        if let Some(connection) = connection {
            world.note(|history| history.connections.push(connection));
        } else if let Some(current) = person.token(&world, replica).await {
            // Perhaps its time was up.
            person.renew(&world, replica, &current, None).await;
        }
    }
}

/// He is told where he is.
fn welcomed(world: &World, welcome: &Value, token: &Token) -> Option<Connection> {
    let now = world.now();
    let replica = welcome["replica"].as_str()?.strip_prefix("replica-")?.parse().ok()?;
    Some(Connection { replica, ended: now, tokens: vec![(now, Arc::clone(&token.ticket))], told: Vec::new() })
}

async fn by_socket(
    world: &World,
    replica: usize,
    person: &Person,
    mut token: Arc<Token>,
    stay: Duration,
    stop: &CancellationToken,
    rng: &mut Rng,
) -> Option<Connection> {
    let mut request =
        format!("{}/v1/ws", world.entrance(replica, rng).replacen("http", "ws", 1)).into_client_request().ok()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", "permcast.v1".parse().expect("a header"));
    let (mut socket, _) = tokio::time::timeout(WITHIN, tokio_tungstenite::connect_async(request)).await.ok()?.ok()?;
    let hello = Message::text(json!({"type": "hello", "token": token.text}).to_string());
    tokio::time::timeout(WITHIN, socket.send(hello)).await.ok()?.ok()?;
    let mut connection: Option<Connection> = None;
    let mut renewal: Option<Renewal<'_>> = None;
    let leaves = tokio::time::sleep(stay.saturating_sub(world.now()));
    tokio::pin!(leaves);
    loop {
        let text = tokio::select! {
            // He leaves; a connection on which nothing was ever said is none.
            () = &mut leaves => break,
            () = stop.cancelled() => break,
            renewed = async { renewal.as_mut().expect("it is there").await }, if renewal.is_some() => {
                renewal = None;
                if let (Some(renewed), Some(connection)) = (renewed, &mut connection) {
                    let refresh = Message::text(json!({"type": "refresh", "token": renewed.text}).to_string());
                    // From here on it may be the one that counts.
                    connection.tokens.push((world.now(), Arc::clone(&renewed.ticket)));
                    token = renewed;
                    if !matches!(tokio::time::timeout(WITHIN, socket.send(refresh)).await, Ok(Ok(()))) {
                        break;
                    }
                }
                continue;
            }
            next = socket.next() => match next {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => continue,
            },
        };
        let message: Value = serde_json::from_str(&text).unwrap_or_default();
        let pv = message["pv"].as_str().and_then(|version| world.seq(version));
        match (message["type"].as_str(), &mut connection) {
            (Some("welcome"), None) => connection = welcomed(world, &message, &token),
            (Some("permissions_changed"), Some(connection)) => {
                connection.told.extend(pv.map(|pv| (world.now(), pv)));
                let within = message["refresh_within_ms"].as_u64().unwrap_or(0).min(PAUSE);
                let (pause, at) = (Duration::from_millis(rng.below(within + 1)), rng.index(REPLICAS));
                let stale = Arc::clone(&token);
                renewal.get_or_insert_with(|| {
                    Box::pin(async move {
                        tokio::time::sleep(pause).await;
                        person.renew(world, at, &stale, pv).await
                    })
                });
            }
            // Over, or the token that was sent was not looked at.
            (Some("session_revoked" | "error"), _) => break,
            _ => {}
        }
    }
    let ended = world.now();
    connection.map(|connection| Connection { ended, ..connection })
}

/// A stream is not refreshed: he stays on, and is told again, until it is time to go.
async fn by_events(
    world: &World,
    replica: usize,
    token: &Token,
    stay: Duration,
    stop: &CancellationToken,
    rng: &mut Rng,
) -> Option<Connection> {
    let request = world.http.get(format!("{}/v1/events", world.entrance(replica, rng))).bearer_auth(&token.text);
    // Above the longest stay.
    let response = request.timeout(Duration::from_millis(2 * STAY)).send();
    let response = tokio::time::timeout(WITHIN, response).await.ok()?.ok()?.error_for_status().ok()?;
    let mut bytes = response.bytes_stream();
    let mut connection: Option<Connection> = None;
    let mut text = String::new();
    let leaves = tokio::time::sleep(stay.saturating_sub(world.now()));
    tokio::pin!(leaves);
    'stays: loop {
        tokio::select! {
            () = &mut leaves => break,
            () = stop.cancelled() => break,
            chunk = bytes.next() => match chunk {
                Some(Ok(chunk)) => text.push_str(&String::from_utf8_lossy(&chunk)),
                Some(Err(_)) | None => break,
            },
        }
        while let Some(end) = text.find("\n\n") {
            let event: String = text.drain(..end + 2).collect();
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let data: Value = serde_json::from_str(field("data:").unwrap_or_default()).unwrap_or_default();
            match (field("event:"), &mut connection) {
                (Some("welcome"), None) => connection = welcomed(world, &data, token),
                (Some("permissions_changed"), Some(connection)) => {
                    let version = data["pv"].as_str().or(field("id:"));
                    connection.told.extend(version.and_then(|version| world.seq(version)).map(|pv| (world.now(), pv)));
                }
                (Some("session_revoked"), _) => break 'stays,
                _ => {}
            }
        }
    }
    let ended = world.now();
    connection.map(|connection| Connection { ended, ..connection })
}
