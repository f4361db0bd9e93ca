//! What the members of bodies can be: the domain's names, and texts with their bounds.

use serde_json::Value;

use super::json::{Member, Object, read_text};
use super::problem::Fault;
use crate::domain::records::{Identity, Status, UserKind};
use crate::domain::{Grant, RoleName, TenantName, Timestamp, UserId};

macro_rules! names {
    ($($name:ty),+) => {$(
        impl Member for $name {
            fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
                read_text(value, pointer, faults, |text| text.parse().map_err(|rule: crate::domain::InvalidName| rule.0))
            }
        }
    )+};
}
names!(TenantName, RoleName, UserId, Grant, Timestamp);

impl Member for Status {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        read_text(value, pointer, faults, |text| match text.as_str() {
            "active" => Ok(Self::Active),
            "suspended" => Ok(Self::Suspended),
            _ => Err("active or suspended is wanted"),
        })
    }
}

impl Member for UserKind {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        read_text(value, pointer, faults, |text| match text.as_str() {
            "person" => Ok(Self::Person),
            "service" => Ok(Self::Service),
            _ => Err("person or service is wanted"),
        })
    }
}

/// A name for people: one line.
pub struct Line(pub String);

impl Member for Line {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        read_text(value, pointer, faults, |text| {
            let fits = text.chars().count() <= 256 && !text.chars().any(char::is_control);
            if fits { Ok(Self(text)) } else { Err("at most 256 characters without control characters are wanted") }
        })
    }
}

/// A text for people. Without NUL, which PostgreSQL cannot keep.
pub struct Prose(pub String);

impl Member for Prose {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        read_text(value, pointer, faults, |text| {
            let fits = text.chars().count() <= 4096 && !text.contains('\0');
            if fits { Ok(Self(text)) } else { Err("at most 4096 characters without NUL are wanted") }
        })
    }
}

/// An email address, in lower case.
pub struct Email(pub String);

impl Member for Email {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        read_text(value, pointer, faults, |text| {
            let parts = text.split_once('@').is_some_and(|(local, host)| {
                !local.is_empty() && !host.is_empty() && !host.contains('@') && text.len() <= 254
            });
            let plain = !text.chars().any(|c| c.is_control() || c.is_whitespace());
            if parts && plain { Ok(Self(text.to_lowercase())) } else { Err("an email address is wanted") }
        })
    }
}

/// A password in the clear, on its way to its hash. Never shown.
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Member for Password {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        read_text(value, pointer, faults, |text| {
            if (1..=1024).contains(&text.len()) { Ok(Self(text)) } else { Err("1 to 1024 bytes are wanted") }
        })
    }
}

impl Member for Identity {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        let mut object = Object::at(pointer, value);
        let issuer = object.required::<Key>("issuer");
        let subject = object.required::<Key>("subject");
        let made = issuer.zip(subject).map(|(issuer, subject)| Self { issuer: issuer.0, subject: subject.0 });
        object.finish_into(made, faults)
    }
}

/// Half of an identity, compared byte by byte.
struct Key(String);

impl Member for Key {
    fn read(value: Value, pointer: &str, faults: &mut Vec<Fault>) -> Option<Self> {
        read_text(value, pointer, faults, |text| {
            let fits = (1..=1024).contains(&text.len()) && !text.chars().any(char::is_control);
            if fits { Ok(Self(text)) } else { Err("1 to 1024 bytes without control characters are wanted") }
        })
    }
}
