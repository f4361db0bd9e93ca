//! Names that users see and numbers that the database hands out.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not a name of the wanted kind; says which rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(pub &'static str);

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:path, $message:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if $check(text) { Ok(Self(text.into())) } else { Err(InvalidName($message)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_type!(
    /// A tenant's name: `[a-z0-9][a-z0-9_-]{0,62}`.
    TenantName, is_tenant_name,
    "a tenant's name is 1 to 63 of a-z 0-9 _ -, the first a letter or digit"
);
text_type!(
    /// A role's name: `[a-z0-9][a-z0-9._-]{0,62}`.
    RoleName, is_role_name,
    "a role's name is 1 to 63 of a-z 0-9 . _ -, the first a letter or digit"
);
text_type!(
    /// A user's id: 1 to 128 of `A-Z a-z 0-9 . _ @ : | + -`, the first a letter, digit or `_`.
    UserId, is_user_id,
    "a user id is 1 to 128 of A-Z a-z 0-9 . _ @ : | + -, the first a letter, digit or _"
);
text_type!(
    /// A session's id (`sid`): 128 random bits as 22 characters of base64url.
    SessionId, is_session_id,
    "a session id is 22 characters of base64url"
);

fn is_tenant_name(text: &str) -> bool {
    is_slug(text, |b| matches!(b, b'_' | b'-'))
}

fn is_role_name(text: &str) -> bool {
    is_slug(text, |b| matches!(b, b'.' | b'_' | b'-'))
}

fn is_slug(text: &str, punctuation: fn(u8) -> bool) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && alphanumeric(bytes[0])
        && bytes.iter().all(|&b| alphanumeric(b) || punctuation(b))
}

fn is_user_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=128).contains(&bytes.len())
        && (bytes[0].is_ascii_alphanumeric() || bytes[0] == b'_')
        && bytes
            .iter()
            .all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'@' | b':' | b'|' | b'+' | b'-'))
}

fn is_session_id(text: &str) -> bool {
    text.len() == 22 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

impl TenantName {
    /// The tenant that exists from the start.
    pub fn first() -> Self {
        Self("default".into())
    }
}

impl SessionId {
    /// A session id from 128 random bits.
    pub fn from_random(bits: [u8; 16]) -> Self {
        use base64::Engine as _;
        Self(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bits).into())
    }
}

/// The database's number of a user; never used again, so that a user made anew under an old id is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserNo(pub i64);

/// The database's number of a role; never used again, so that a role made anew under an old name has no members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoleNo(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_grammar() {
        for good in ["a", "0", "acme-eu", "a_b", &"a".repeat(63)] {
            assert!(good.parse::<TenantName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a.b", "a b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<TenantName>().is_err(), "{bad}");
        }
        assert!("a.b".parse::<RoleName>().is_ok());
        assert!(".a".parse::<RoleName>().is_err());
        for good in ["ben", "_x", "auth0|5f", "a@b.c", "A:b+c-d", &"u".repeat(128)] {
            assert!(good.parse::<UserId>().is_ok(), "{good}");
        }
        for bad in ["", "@a", "a/b", "a b", "a\n", &"u".repeat(129)] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_session_id_survives_its_text_form() {
        let id = SessionId::from_random([0xff; 16]);
        assert_eq!(id.as_str().parse::<SessionId>(), Ok(id));
    }
}
