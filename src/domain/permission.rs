//! The permission grammar and the one question asked of it: does this grant cover that request?

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::name::InvalidName;

/// Manage one tenant.
pub const ADMIN: &str = "permcast:admin";
/// All tenants, keys, lockdown, replicas; implies the other two.
pub const OPERATOR: &str = "permcast:operator";
/// Ask about others.
pub const CHECK: &str = "permcast:check";

const SEGMENTS_MAX: usize = 8;
const SEGMENT_BYTES_MAX: usize = 64;
const RESERVED_PREFIX: &str = "permcast:";

/// A permission that is asked for: 1 to 8 segments joined by `:`, none of them `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission(Arc<str>);

/// A permission as it is granted: like [`Permission`], but any segment may be `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant(Arc<str>);

fn is_segment(segment: &str) -> bool {
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let bytes = segment.as_bytes();
    (1..=SEGMENT_BYTES_MAX).contains(&bytes.len())
        && first(bytes[0])
        && bytes.iter().all(|&b| first(b) || matches!(b, b'.' | b'-'))
}

fn is_grant(text: &str) -> bool {
    text.len() <= SEGMENTS_MAX * (SEGMENT_BYTES_MAX + 1)
        && text.split(':').count() <= SEGMENTS_MAX
        && text.split(':').all(|segment| segment == "*" || is_segment(segment))
}

impl Permission {
    /// The permission as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether only a grant of exactly this name covers it.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX)
    }
}

impl Grant {
    /// The grant as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this grants a `permcast:` permission. One with a `*` grants none, so it is not reserved.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED_PREFIX) && !self.has_wildcard()
    }

    /// Whether any segment is `*`.
    pub fn has_wildcard(&self) -> bool {
        self.0.split(':').any(|segment| segment == "*")
    }

    /// Whether holding this grant allows the request: segment by segment, `*` matching any one segment; a
    /// shorter grant covers all below it, a longer one only if its further segments are all `*` (Apache Shiro's
    /// WildcardPermission). A reserved request is covered by its full name alone.
    pub fn covers(&self, request: &Permission) -> bool {
        if request.is_reserved() {
            return self.0 == request.0;
        }
        let mut asked = request.0.split(':');
        self.0.split(':').all(|granted| match asked.next() {
            Some(segment) => granted == "*" || granted == segment,
            None => granted == "*",
        })
    }
}

impl FromStr for Permission {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_grant(text) && !text.contains('*') {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName("a permission is 1 to 8 segments of [a-z0-9_][a-z0-9_.-]{0,63} joined by :"))
        }
    }
}

impl FromStr for Grant {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_grant(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName("a granted permission is 1 to 8 segments of [a-z0-9_][a-z0-9_.-]{0,63} or * joined by :"))
        }
    }
}

macro_rules! text_impls {
    ($name:ident) => {
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
text_impls!(Permission);
text_impls!(Grant);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covers(grant: &str, request: &str) -> bool {
        grant.parse::<Grant>().unwrap().covers(&request.parse().unwrap())
    }

    #[test]
    fn covering_follows_the_contract() {
        assert!(covers("invoices:read", "invoices:read:42"));
        assert!(!covers("invoices:read:42", "invoices:read"));
        assert!(covers("invoices:*", "invoices"));
        assert!(covers("invoices:*:42", "invoices:read:42"));
        assert!(!covers("invoices:*:42", "invoices:read"));
        assert!(covers("*", "anything:at:all"));
        assert!(covers("*:read", "invoices:read"));
        assert!(!covers("*:read", "invoices"));
    }

    #[test]
    fn reserved_permissions_need_their_full_name() {
        for grant in ["*", "permcast", "permcast:*", "*:admin", "*:*"] {
            assert!(!covers(grant, ADMIN), "{grant}");
        }
        assert!(covers(ADMIN, ADMIN));
        assert!(!covers(ADMIN, "permcast:admin:x"));
        assert!(covers("*", "permcast"));
    }

    #[test]
    fn the_grammar_refuses_what_it_must() {
        for bad in ["", ":", "a:", ":a", "A", "a b", "a:b:c:d:e:f:g:h:i", "a*", "**", "-a", ".a", &"a".repeat(65)] {
            assert!(bad.parse::<Grant>().is_err(), "{bad}");
            assert!(bad.parse::<Permission>().is_err(), "{bad}");
        }
        assert!("a:*".parse::<Permission>().is_err());
        assert!("a:b:c:d:e:f:g:h".parse::<Permission>().is_ok());
        assert!("_a.b-c".parse::<Permission>().is_ok());
    }

    /// The rule once more, as naively as possible: pad the grant with `*` to the request's length and the
    /// request with a segment that only `*` matches to the grant's, then compare position by position.
    fn naive(grant: &str, request: &str) -> bool {
        if request.starts_with("permcast:") {
            return grant == request;
        }
        let mut grant: Vec<&str> = grant.split(':').collect();
        let mut request: Vec<&str> = request.split(':').collect();
        while grant.len() < request.len() {
            grant.push("*");
        }
        while request.len() < grant.len() {
            request.push("#");
        }
        (0..grant.len()).all(|i| grant[i] == "*" || grant[i] == request[i])
    }

    proptest! {
        #[test]
        fn covering_agrees_with_the_naive_rule(
            grant in proptest::collection::vec(prop_oneof![Just("*"), Just("a"), Just("b"), Just("permcast"), Just("admin")], 1..=8),
            request in proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("permcast"), Just("admin")], 1..=8),
        ) {
            let (grant, request) = (grant.join(":"), request.join(":"));
            prop_assert_eq!(covers(&grant, &request), naive(&grant, &request));
        }
    }
}
