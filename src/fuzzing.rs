//! What fuzzers drive: every reader of what strangers send, with what must hold of whatever they make of it. A function a
//! target; one that finds a fault panics. Not part of the API.
//!
//! `fuzz/` drives them with libFuzzer; the tests drive them for a moment from the same seeds, without any tool.

use std::collections::BTreeMap;

use crate::domain::{Change, Grant, Permission, PermissionSet, RoleName, TenantName, UserId, Version};
use crate::protocol::bus::{ChangesMessage, ReplicaMessage, Sealer, traceparent};
use crate::protocol::socket::ClientMessage;

pub use crate::http::oauth::fuzz::forms;
pub use crate::issuer::fuzz::issuer_tokens;
pub use crate::socket::lean::fuzz::frames;
pub use crate::token::fuzz::tokens;

/// A reader, and what must hold of what it makes of these bytes.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("tokens", tokens),
    ("issuer_tokens", issuer_tokens),
    ("messages", messages),
    ("frames", frames),
    ("permissions", permissions),
    ("bus", bus),
    ("forms", forms),
];

/// Messages of clients of push.
pub fn messages(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(message) = ClientMessage::decode(text) else { return };
    let value: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).expect("a message is a JSON object");
    let (ClientMessage::Hello { token } | ClientMessage::Refresh { token }) = &message else { return };
    assert_eq!(value["token"], token.as_str(), "another token than the message's");
    assert!(value["type"] == "hello" || value["type"] == "refresh", "another type than the message's");
}

/// Names, and which grant covers which request: beside the rule said in the simplest way.
pub fn permissions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut words = text.splitn(3, '\n');
    let (grant, asked, rest) = (words.next().unwrap_or(""), words.next().unwrap_or(""), words.next().unwrap_or(""));
    for word in [grant, asked, rest] {
        reads_back::<TenantName>(word);
        reads_back::<RoleName>(word);
        reads_back::<UserId>(word);
        reads_back::<Version>(word);
        reads_back::<Permission>(word);
        reads_back::<Grant>(word);
    }
    let (Ok(grant), Ok(asked)) = (grant.parse::<Grant>(), asked.parse::<Permission>()) else { return };
    assert!(!asked.as_str().contains('*'), "a request holds no star");
    let expected = covers(grant.as_str(), asked.as_str());
    assert_eq!(grant.covers(&asked), expected, "{grant} and {asked}");
    // In a set it is the same, whatever is beside it.
    let others = rest.split('\n').filter_map(|line| line.parse::<Grant>().ok());
    let set: PermissionSet = others.chain([grant]).collect();
    let any = set.grants().iter().any(|grant| covers(grant.as_str(), asked.as_str()));
    assert!(!expected || any);
    let implied = matches!(asked.as_str(), "permcast:admin" | "permcast:check") && set.is_operator();
    assert_eq!(set.allows(&asked), any || implied, "{asked} of {:?}", set.grants());
}

fn reads_back<T: std::str::FromStr + std::fmt::Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text, "it is written otherwise than it was read");
    }
}

/// The contract's rule: both filled up with stars and with whatever is below.
fn covers(grant: &str, asked: &str) -> bool {
    if asked.starts_with("permcast:") {
        return grant == asked;
    }
    let (granted, asked): (Vec<&str>, Vec<&str>) = (grant.split(':').collect(), asked.split(':').collect());
    (0..granted.len().max(asked.len())).all(|at| match (granted.get(at), asked.get(at)) {
        (None | Some(&"*"), _) => true,
        (Some(own), Some(other)) => own == other,
        (Some(_), None) => false,
    })
}

/// Payloads from the broker and their seals: what is read is written as what it was read from, and no seal but ours holds.
pub fn bus(data: &[u8]) {
    if let Some(message) = ChangesMessage::decode(data) {
        let again = ChangesMessage::decode(&message.encode()).expect("what was written can be read");
        assert_eq!((again.epoch, &again.origin), (message.epoch, &message.origin));
        let kinds = |changes: &[Change]| -> Vec<String> {
            changes
                .iter()
                .map(|change| format!("{} {:?} {}", change.seq, change.target, change.effect.as_str()))
                .collect()
        };
        assert_eq!(kinds(&again.changes), kinds(&message.changes), "a change became another");
    }
    if let Some(message) = ReplicaMessage::decode(data) {
        ReplicaMessage::decode(&message.encode()).expect("what was written can be read");
    }
    let sealer = Sealer::new(b"a secret that the fuzzer does not know");
    let text = String::from_utf8_lossy(data);
    let (seal, payload) = text.split_once('\n').unwrap_or((&text, ""));
    assert!(!sealer.is_valid(seal, "subject", payload.as_bytes()), "a seal that is not ours");
    let own = sealer.seal("subject", data);
    assert!(sealer.is_valid(&own, "subject", data) && !sealer.is_valid(&own, "subjec", data));
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    trace.iter_mut().chain(&mut span).zip(data).for_each(|(to, from)| *to = *from);
    let parent = traceparent(trace, span);
    let parts: Vec<&str> = parent.split('-').collect();
    let is_id = |text: &str, length| text.len() == length && text.bytes().any(|byte| byte != b'0');
    assert!(parts.len() == 4 && is_id(parts[1], 32) && is_id(parts[2], 16), "{parent} is no traceparent");
}

#[cfg(test)]
#[path = "fuzzing_tests.rs"]
mod tests;
