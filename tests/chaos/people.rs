//! One who signs in, keeps a token, and refreshes it when he is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::history::{Moment, Seq, Ticket, Touch};
use super::process::PASSWORD;
use super::world::{Answer, World};

/// Former tokens that are kept, to be shown where they must be refused.
const FORMER: usize = 3;
/// Pause after a sign-in was refused: he may be suspended, and guessing is slowed down.
const REFUSED: Duration = Duration::from_secs(1);

pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) ticket: Arc<Ticket>,
}

struct Signed {
    current: Arc<Token>,
    refresh: String,
}

pub(crate) struct Person {
    pub(crate) name: String,
    /// Locked while he signs in or refreshes.
    signed: tokio::sync::Mutex<Option<Signed>>,
    former: Mutex<VecDeque<Arc<Token>>>,
    waits_until: Mutex<Moment>,
}

impl Person {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            signed: tokio::sync::Mutex::default(),
            former: Mutex::default(),
            waits_until: Mutex::default(),
        }
    }

    /// His token; signs in if he has none. `None` where he cannot have one at the moment.
    pub(crate) async fn token(&self, world: &World, replica: usize) -> Option<Arc<Token>> {
        let mut signed = self.signed.try_lock().ok()?;
        if signed.is_none() {
            *signed = self.sign_in(world, replica).await;
        }
        signed.as_ref().map(|signed| Arc::clone(&signed.current))
    }

    /// One that he had before.
    pub(crate) fn former(&self, nth: usize) -> Option<Arc<Token>> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner).get(nth % FORMER).cloned()
    }

    /// Another token in the place of one that is stale, not older than `at_least`.
    pub(crate) async fn renew(
        &self,
        world: &World,
        replica: usize,
        stale: &Token,
        at_least: Option<Seq>,
    ) -> Option<Arc<Token>> {
        let mut signed = self.signed.lock().await;
        let before = match signed.take() {
            Some(before) if before.current.text != stale.text => {
                let current = Arc::clone(&before.current);
                *signed = Some(before);
                return Some(current);
            }
            Some(before) => before,
            None => {
                *signed = self.sign_in(world, replica).await;
                return signed.as_ref().map(|signed| Arc::clone(&signed.current));
            }
        };
        let fields = [("grant_type", "refresh_token"), ("refresh_token", before.refresh.as_str())];
        let mut request = world.http.post(format!("{}/oauth/token", world.base(replica))).form(&fields);
        if let Some(seq) = at_least {
            request = request.header("Permcast-At-Least", format!("{}.{seq}", world.epoch));
        }
        match world.send(request).await {
            Ok(answer) if answer.status == 200 => {
                let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
                former.push_front(before.current);
                former.truncate(FORMER);
                *signed = self.read(world, &answer);
            }
            // The session is over: he signs in anew.
            Ok(answer) if answer.status == 400 => {}
            // Later with the same one.
            _ => {
                *signed = Some(before);
                return None;
            }
        }
        signed.as_ref().map(|signed| Arc::clone(&signed.current))
    }

    async fn sign_in(&self, world: &World, replica: usize) -> Option<Signed> {
        if world.now() < *self.waits_until.lock().unwrap_or_else(PoisonError::into_inner) {
            return None;
        }
        let body = json!({"username": self.name, "password": PASSWORD});
        let answer = world.ask(replica, reqwest::Method::POST, "/v1/login", None, Some(&body)).await.ok()?;
        if answer.status != 200 {
            *self.waits_until.lock().unwrap_or_else(PoisonError::into_inner) = world.now() + REFUSED;
        }
        self.read(world, &answer)
    }

    fn read(&self, world: &World, answer: &Answer) -> Option<Signed> {
        let text = answer.body["access_token"].as_str()?.to_owned();
        let refresh = answer.body["refresh_token"].as_str()?.to_owned();
        let ticket = Arc::new(ticket(world, &self.name, &text)?);
        Some(Signed { current: Arc::new(Token { text, ticket }), refresh })
    }
}

/// What a token says of itself.
fn ticket(world: &World, owner: &str, token: &str) -> Option<Ticket> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let mut rests_on = vec![
        Touch::new("user", owner),
        Touch::new("session", claims["sid"].as_str()?),
        Touch::new("tenant", "default"),
        Touch::everyone(),
    ];
    match claims["roles"].as_array() {
        Some(roles) => rests_on.extend(roles.iter().filter_map(Value::as_str).map(|role| Touch::new("role", role))),
        None => rests_on = vec![Touch::end_of(owner), rests_on.remove(1), Touch::everyone()],
    }
    Some(Ticket { owner: owner.to_owned(), pv: world.seq(claims["pv"].as_str()?)?, rests_on })
}
