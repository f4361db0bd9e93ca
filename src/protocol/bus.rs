//! Messages between replicas, as NATS carries them, and the seal that makes them believable.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::domain::{Change, Effect, Epoch, Seq, SessionId, Target, TenantName, Timestamp, UserId};

/// The header that carries the seal.
pub const SEAL_HEADER: &str = "Permcast-Seal";

/// The header that lets a message be followed through the replicas' logs (W3C Trace Context).
pub const TRACE_HEADER: &str = "traceparent";

/// A trace of its own for a message: one commit may carry the writes of many requests, so none of them is its parent.
pub fn traceparent(trace: [u8; 16], span: [u8; 8]) -> String {
    // All zeroes are no id there.
    format!("00-{:032x}-{:016x}-00", u128::from_be_bytes(trace).max(1), u64::from_be_bytes(span).max(1))
}

/// `permcast.v1.<deployment>.changes.<tenant>`, `_all` for no tenant in particular.
pub fn changes_subject(deployment: &str, tenant: Option<&TenantName>) -> String {
    format!("permcast.v1.{deployment}.changes.{}", tenant.map_or("_all", TenantName::as_str))
}

/// What every replica subscribes to.
pub fn all_changes_subject(deployment: &str) -> String {
    format!("permcast.v1.{deployment}.changes.*")
}

/// `permcast.v1.<deployment>.replicas`.
pub fn replicas_subject(deployment: &str) -> String {
    format!("permcast.v1.{deployment}.replicas")
}

/// `permcast.v1.<deployment>.connections`.
pub fn connections_subject(deployment: &str) -> String {
    format!("permcast.v1.{deployment}.connections")
}

/// `permcast.v1.<deployment>.hello`: what a replica says to itself at its start, to see what NATS lets it do.
pub fn hello_subject(deployment: &str) -> String {
    format!("permcast.v1.{deployment}.hello")
}

/// Changes that a replica committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesMessage {
    pub epoch: Epoch,
    /// The replica that committed them.
    pub origin: String,
    pub changes: Vec<Change>,
}

/// What a replica says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaMessage {
    pub id: String,
    pub epoch: Epoch,
    /// The version that it has applied.
    pub applied: Seq,
    /// How many connections it carries.
    pub connections: u64,
    /// How far the changes of the last while have come with its connections.
    pub receipts: Vec<Receipt>,
    /// How long ago it last knew that it had missed nothing; absent where it never did, or does not say.
    #[serde(default)]
    pub lag_ms: Option<u64>,
    pub at: Timestamp,
}

/// How far one change has come with one replica's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub seq: Seq,
    pub affected: u64,
    pub notified: u64,
    pub refreshed: u64,
}

/// Replicas ask each other which of a user's sessions have a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RollCallMessage {
    /// Which of these do?
    Called { id: String, by: String, tenant: TenantName, user: UserId, sessions: Vec<SessionId> },
    /// On this replica, these.
    Answered { id: String, by: String, sessions: Vec<SessionId> },
}

#[derive(Serialize, Deserialize)]
struct WireChanges {
    epoch: Epoch,
    origin: String,
    changes: Vec<WireChange>,
}

#[derive(Serialize, Deserialize)]
struct WireChange {
    seq: Seq,
    tenant: Option<String>,
    kind: String,
    target: String,
    user: Option<String>,
    effect: String,
    at: Timestamp,
}

impl From<&Change> for WireChange {
    fn from(change: &Change) -> Self {
        let user = match &change.target {
            Target::User { user, .. } | Target::Session { user, .. } => Some(user.to_string()),
            _ => None,
        };
        Self {
            seq: change.seq,
            tenant: change.target.tenant().map(TenantName::to_string),
            kind: change.target.kind().to_string(),
            target: change.target.name().to_owned(),
            user,
            effect: change.effect.as_str().to_owned(),
            at: change.at,
        }
    }
}

impl From<WireChange> for Change {
    fn from(wire: WireChange) -> Self {
        Self {
            seq: wire.seq,
            at: wire.at,
            target: Target::from_parts(&wire.kind, wire.tenant.as_deref(), &wire.target, wire.user.as_deref()),
            effect: Effect::from_word(&wire.effect),
        }
    }
}

impl ChangesMessage {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let wire = WireChanges {
            epoch: self.epoch,
            origin: self.origin.clone(),
            changes: self.changes.iter().map(WireChange::from).collect(),
        };
        serde_json::to_vec(&wire).expect("a change holds strings and numbers only")
    }

    /// Reads a payload; `None` where it is not one. A kind that is not known is taken as `everyone`.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let wire: WireChanges = serde_json::from_slice(payload).ok()?;
        Some(Self {
            epoch: wire.epoch,
            origin: wire.origin,
            changes: wire.changes.into_iter().map(Change::from).collect(),
        })
    }
}

impl ReplicaMessage {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a replica's message holds strings and numbers only")
    }

    /// Reads a payload; `None` where it is not one.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

impl RollCallMessage {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a roll call holds strings only")
    }

    /// Reads a payload; `None` where it is not one.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

/// Seals and checks messages with a key that only those who share the database know.
#[derive(Clone)]
pub struct Sealer {
    key_id: String,
    key: hmac::Key,
}

impl Sealer {
    /// From the key kept in the database. Its id is a digest of it, so that two keys have two ids.
    pub fn new(secret: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret);
        Self { key_id: URL_SAFE_NO_PAD.encode(&digest.as_ref()[..6]), key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// `<key id>.<base64url HMAC-SHA-256 over subject and payload>`. A zero byte, which no subject holds, parts the two.
    pub fn seal(&self, subject: &str, payload: &[u8]) -> String {
        let tag = self.context(subject, payload).sign();
        format!("{}.{}", self.key_id, URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    /// Whether the seal is one of ours over exactly this.
    pub fn is_valid(&self, seal: &str, subject: &str, payload: &[u8]) -> bool {
        let Some((key_id, tag)) = seal.split_once('.') else { return false };
        let Ok(tag) = URL_SAFE_NO_PAD.decode(tag) else { return false };
        let expected = self.context(subject, payload).sign();
        key_id == self.key_id && aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), &tag).is_ok()
    }

    fn context(&self, subject: &str, payload: &[u8]) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(subject.as_bytes());
        context.update(&[0]);
        context.update(payload);
        context
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> ChangesMessage {
        ChangesMessage {
            epoch: "abcd2345".parse().unwrap(),
            origin: "r1".into(),
            changes: vec![Change {
                seq: Seq::new(42).unwrap(),
                at: Timestamp::from_millis(0),
                target: Target::User { tenant: TenantName::first(), user: "ben".parse().unwrap() },
                effect: Effect::Changed,
            }],
        }
    }

    #[test]
    fn a_message_reads_back_what_it_writes() {
        assert_eq!(ChangesMessage::decode(&message().encode()), Some(message()));
        assert_eq!(
            String::from_utf8(message().encode()).unwrap(),
            r#"{"epoch":"abcd2345","origin":"r1","changes":[{"seq":42,"tenant":"default","kind":"user","target":"ben","user":"ben","effect":"changed","at":"1970-01-01T00:00:00.000Z"}]}"#
        );
    }

    #[test]
    fn a_kind_from_the_future_touches_everyone() {
        let payload = br#"{"epoch":"abcd2345","origin":"r","changes":[{"seq":1,"tenant":"default","kind":"galaxy","target":"x","user":null,"effect":"imploded","at":"1970-01-01T00:00:00Z"}]}"#;
        let read = ChangesMessage::decode(payload).unwrap();
        assert_eq!((&read.changes[0].target, read.changes[0].effect), (&Target::Everyone, Effect::Changed));
    }

    #[test]
    fn a_trace_is_as_w3c_writes_it() {
        assert_eq!(traceparent([0xab; 16], [1; 8]), format!("00-{}-{}-00", "ab".repeat(16), "01".repeat(8)));
        assert_eq!(traceparent([0; 16], [0; 8]), format!("00-{}1-{}1-00", "0".repeat(31), "0".repeat(15)));
    }

    #[test]
    fn only_the_same_key_subject_and_payload_pass() {
        let sealer = Sealer::new(b"one secret");
        let seal = sealer.seal("a.b", b"payload");
        assert!(sealer.is_valid(&seal, "a.b", b"payload"));
        assert!(!sealer.is_valid(&seal, "a.c", b"payload"));
        assert!(!sealer.is_valid(&seal, "a.b", b"payloaD"));
        assert!(!Sealer::new(b"another").is_valid(&seal, "a.b", b"payload"));
        for bad in ["", ".", "x.", &seal[..seal.len() - 2], "%%.%%"] {
            assert!(!sealer.is_valid(bad, "a.b", b"payload"), "{bad}");
        }
    }
}
