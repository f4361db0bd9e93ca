//! `permcast token`: what a token says and whether it holds; a token for a script or for support; the end of one.

use std::io::{IsTerminal as _, Read as _};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{ACTOR, CommandError, Given, open, say};
use crate::cache::{CacheLimits, PermissionCache};
use crate::config::Config;
use crate::domain::limits::FLOOR_ENTRIES_MAX;
use crate::domain::{
    Applied, Change, Clock as _, Floors, Freshness, Operation, Random, Seq, SessionId, TenantName, Unit, UserId,
    Version,
};
use crate::runtime::{SystemClock, SystemRandom};
use crate::store::{LiveSession, NewSession, Store};
use crate::token::{KeySet, Mint, Snapshot, TokenSettings, Vault, Verified, Verifier};

/// What to do with tokens.
#[derive(clap::Subcommand)]
pub enum Token {
    /// Say what is in an access token, and whether it holds here and now; exit code 2 where it does not.
    ///
    /// The answer is JSON: `claims` as they stand there, `verified`, `state` (`fresh`, `stale`, `ended`, `refused`), and
    /// why. Nothing is asked of a replica.
    Inspect {
        /// The token; `-` reads it from the standard input, so that it is in no shell's history.
        token: String,
    },
    /// Open a session of a user and print an access token of it.
    ///
    /// It needs no password and cannot be refreshed. It carries what the user may do, no more, goes stale as any other,
    /// and is listed among his sessions. The audit trail tells that it was opened from here.
    Issue {
        #[arg(long, default_value_t = TenantName::first())]
        tenant: TenantName,
        #[arg(long)]
        user: UserId,
        /// How long the session lives [default: as long as access tokens do, which is also the longest]
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        ttl: Option<Duration>,
    },
    /// End a session, and so all of its tokens, on every replica.
    Revoke {
        /// The session (`sid`), or an access token of it; `-` reads it from the standard input.
        session: String,
    },
}

pub(super) async fn token(what: Token, given: Given) -> Result<(), CommandError> {
    let (store, config) = open(given).await?;
    let done = match what {
        Token::Inspect { token } => inspect(&store, &config, &read(token)?).await,
        Token::Issue { tenant, user, ttl } => issue(&store, &config, tenant, user, ttl).await,
        Token::Revoke { session } => revoke(&store, &read(session)?).await,
    };
    store.close().await;
    done
}

fn random() -> &'static dyn Random {
    &SystemRandom
}

/// What was given, or what comes in.
fn read(given: String) -> Result<String, CommandError> {
    if given != "-" {
        return Ok(given);
    }
    if std::io::stdin().is_terminal() {
        eprintln!("a token, then Ctrl-D:");
    }
    let mut text = String::new();
    // More than any token is long.
    std::io::stdin().take(64 * 1024).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

async fn keys(store: &Arc<dyn Store>, config: &Config) -> Result<Arc<KeySet>, CommandError> {
    let vault = match &config.key_encryption_key {
        Some(key) => Vault::with_key(&key.0)?,
        None => Vault::plain(),
    };
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let (algorithm, ttl) = (config.token_algorithm.parse()?, config.access_token_ttl);
    Ok(Arc::new(KeySet::open(Arc::clone(store), Arc::new(vault), algorithm, ttl, clock, random).await?))
}

/// As the replicas have them. The issuer is in the database from their first start on.
async fn settings(store: &dyn Store, config: &Config) -> Result<TokenSettings, CommandError> {
    let issuer = match (store.setting("issuer").await?, &config.issuer) {
        (Some(kept), _) => kept,
        (None, Some(set)) => set.clone(),
        (None, None) => {
            let said = "no replica has run on this database yet: set PERMCAST_ISSUER, or start one first";
            return Err(CommandError::Settings(said.into()));
        }
    };
    let permissions = config.token_permissions.parse().map_err(|error| CommandError::Settings(format!("{error}")))?;
    let audience = config.audience.clone().unwrap_or_else(|| issuer.clone());
    Ok(TokenSettings { issuer, audience, ttl: config.access_token_ttl, permissions })
}

/// A replica's view of the log, for one question.
struct View {
    floors: Arc<Floors>,
    applied: Arc<Applied>,
}

impl View {
    async fn of(store: &dyn Store) -> Result<Self, CommandError> {
        let applied = Arc::new(Applied::new(store.tail(Seq::MAX).await?.epoch));
        let floors = Arc::new(Floors::new(u64::from_le_bytes(random().bytes()), FLOOR_ENTRIES_MAX));
        Ok(Self { floors, applied })
    }

    /// Applies what came after a token; gives the change by which it was fresh no more, and the head.
    async fn replay(&self, store: &dyn Store, token: &Verified) -> Result<(Option<Change>, Version), CommandError> {
        let mut position = token.claims.version.seq;
        let mut first = None;
        loop {
            let page = store.tail(position).await?;
            for change in &page.changes {
                // Nobody is connected here who would have to be told what was folded.
                let _ = self.floors.raise(change, self.applied.generation());
                if first.is_none() && !self.floors.is_fresh(&token.basis) {
                    first = Some(change.clone());
                }
                position = change.seq;
            }
            if page.complete {
                return Ok((first, Version { epoch: page.epoch, seq: page.head }));
            }
        }
    }
}

async fn inspect(store: &Arc<dyn Store>, config: &Config, token: &str) -> Result<(), CommandError> {
    let view = View::of(&**store).await?;
    let (keys, settings) = (keys(store, config).await?, settings(&**store, config).await?);
    let (floors, applied) = (Arc::clone(&view.floors), Arc::clone(&view.applied));
    let verifier = Verifier::new(keys, floors, applied, Arc::new(SystemClock), &settings);
    let verified = verifier.verify_once(token);
    let mut answer = json!({ "claims": payload(token), "verified": verified.is_ok() });
    let state = match verified {
        Err(error) => {
            answer["why"] = json!(error.to_string());
            "refused"
        }
        Ok(verified) => judge(&view, &**store, &verified, &mut answer).await?,
    };
    answer["state"] = json!(state);
    say(&serde_json::to_string_pretty(&answer).unwrap_or_default())?;
    if state == "fresh" { Ok(()) } else { Err(CommandError::Unwell(format!("the token is {state}"))) }
}

/// Whether a token that holds by itself may be used.
async fn judge(
    view: &View,
    store: &dyn Store,
    token: &Verified,
    answer: &mut Value,
) -> Result<&'static str, CommandError> {
    let session = match token.claims.session() {
        Some(session) => store.load_session(session).await?.value,
        None => None,
    };
    if session.is_none() {
        answer["why"] = json!("its session is over, or its user or tenant is not active");
        return Ok("ended");
    }
    let (first, head) = view.replay(store, token).await?;
    answer["head"] = json!(head);
    if head.epoch != token.claims.version.epoch {
        answer["why"] = json!("it is of another life of the log: a backup was put back since");
        return Ok("stale");
    }
    if token.claims.version.seq > head.seq {
        answer["why"] = json!("its version is above the head of the log");
        return Ok("stale");
    }
    let Some(change) = first else { return Ok("fresh") };
    answer["change"] = json!({
        "seq": change.seq, "at": change.at, "kind": change.target.kind(), "target": change.target.name(),
        "effect": change.effect,
    });
    answer["why"] = json!("a later change touches it; `change` is the first that did");
    Ok(match view.floors.freshness(&token.basis) {
        Freshness::Ended { .. } => "ended",
        Freshness::Fresh | Freshness::Stale { .. } => "stale",
    })
}

/// What a token says, whoever wrote it.
fn payload(token: &str) -> Value {
    let part = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    part.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null)
}

async fn issue(
    store: &Arc<dyn Store>,
    config: &Config,
    tenant: TenantName,
    user: UserId,
    ttl: Option<Duration>,
) -> Result<(), CommandError> {
    let settings = settings(&**store, config).await?;
    let ttl = ttl.unwrap_or(settings.ttl).min(settings.ttl);
    let keys = keys(store, config).await?;
    let session = NewSession {
        id: SessionId::from_random(random().bytes()),
        tenant: tenant.clone(),
        user: user.clone(),
        refresh: None,
        password: None,
        address: String::new(),
        user_agent: "permcast token issue".to_owned(),
        request: None,
        by: Some(ACTOR.label()),
        idle: None,
        ends_at: SystemClock.now().plus(ttl),
    };
    let nobody = || CommandError::Unwell(format!("there is no active user {user} in an active tenant {tenant}"));
    let live = store.open_session(session).await?.ok_or_else(nobody)?;
    let view = View::of(&**store).await?;
    let (floors, applied, clock) = (view.floors, Arc::clone(&view.applied), Arc::new(SystemClock));
    let cache = PermissionCache::new(Arc::clone(store), floors, applied, clock, CacheLimits::default());
    let (as_of, found) = cache.read_access(&tenant, &user).await?;
    let access = found.ok_or_else(nobody)?.access;
    let loaded = store.load_session(&live.id).await?;
    let LiveSession { id, expires_at, .. } = loaded.value.ok_or_else(nobody)?;
    // The lower of both, so that what comes meanwhile is never outrun.
    let version = Version { seq: as_of.seq().min(loaded.version.seq), ..loaded.version };
    let mint = Mint::new(keys, settings, Arc::new(SystemClock), Arc::new(SystemRandom));
    let client_id = "permcast-cli".to_owned();
    let minted = mint.mint(&Snapshot { access, session: id, session_expires_at: expires_at, version, client_id })?;
    say(&minted.token)
}

async fn revoke(store: &Arc<dyn Store>, given: &str) -> Result<(), CommandError> {
    let named = payload(given)["sid"].as_str().unwrap_or(given).to_owned();
    let unknown = || CommandError::Settings("wanted is a session (`sid`) or an access token of it".to_owned());
    let session: SessionId = named.parse().map_err(|_| unknown())?;
    let Some(live) = store.load_session(&session).await?.value else {
        return say("the session is over already, or was never there");
    };
    let operation = Operation::EndSession { tenant: live.tenant, user: live.user, session };
    let written = store.write(Unit { actor: ACTOR, operations: vec![operation] }).await?;
    say(&format!("ended at {}", written.version))
}
