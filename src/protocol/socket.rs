//! Messages of `permcast.v1`, the same over WebSocket and server-sent events, and the close codes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{Effect, Timestamp, Version};

/// The subprotocol's name.
pub const SUBPROTOCOL: &str = "permcast.v1";
/// Prefix of the second offered subprotocol, which carries the token.
pub const BEARER_PREFIX: &str = "bearer.";

/// How widely a change reaches; a wider one stands for a narrower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    User,
    Role,
    Tenant,
    Everyone,
}

/// From the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The connection stands.
    Welcome {
        connection: String,
        replica: String,
        pv: Version,
        heartbeat_ms: u64,
    },
    /// A token must reach `pv`; to be fetched within the time.
    PermissionsChanged {
        pv: Version,
        reason: Reason,
        refresh_within_ms: u64,
        at: Timestamp,
    },
    /// The token sent by `refresh` is accepted and fresh.
    Refreshed {
        pv: Version,
    },
    TokenExpiring {
        expires_in_ms: u64,
    },
    /// Then close 4403.
    SessionRevoked {
        reason: Effect,
    },
    /// Then close 1012.
    Draining {
        reconnect_within_ms: u64,
    },
    Locked {
        retry_after_s: u32,
    },
    Unlocked {
        within_ms: u64,
    },
    Heartbeat {
        pv: Version,
    },
    Error {
        code: String,
        detail: String,
    },
}

impl ServerMessage {
    /// The value of `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Welcome { .. } => "welcome",
            Self::PermissionsChanged { .. } => "permissions_changed",
            Self::Refreshed { .. } => "refreshed",
            Self::TokenExpiring { .. } => "token_expiring",
            Self::SessionRevoked { .. } => "session_revoked",
            Self::Draining { .. } => "draining",
            Self::Locked { .. } => "locked",
            Self::Unlocked { .. } => "unlocked",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Error { .. } => "error",
        }
    }

    /// The text frame.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("a server message holds strings and numbers only")
    }
}

/// From the client. Unknown members are ignored.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    Hello {
        token: String,
    },
    Refresh {
        token: String,
    },
    Ping,
    /// A type that this server does not know: ignored.
    #[serde(other)]
    Unknown,
}

impl ClientMessage {
    /// Reads a text frame; `None` where it is no JSON object with a `type`, or a known type lacks a member.
    pub fn decode(text: &str) -> Option<Self> {
        // serde would take a list for an object, too.
        text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok())?
    }
}

/// Close codes of the protocol (RFC 6455, 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The server restarts, or the client does not read; it comes back.
    Restart = 1012,
    /// What came breaks RFC 6455.
    Protocol = 1002,
    NotUtf8 = 1007,
    /// More messages than anybody needs to send.
    Flood = 1008,
    BadMessage = 4400,
    TokenRefused = 4401,
    SessionOver = 4403,
    NoHello = 4408,
    TooLarge = 4413,
    TooManyConnections = 4429,
}

impl CloseCode {
    /// The number.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// For people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Protocol => "protocol error",
            Self::NotUtf8 => "a text is UTF-8",
            Self::Flood => "too many messages",
            Self::BadMessage => "bad message",
            Self::TokenRefused => "token refused or expired",
            Self::SessionOver => "session over",
            Self::NoHello => "no hello",
            Self::TooLarge => "message too large",
            Self::TooManyConnections => "too many connections of one user",
        }
    }
}

/// Whole milliseconds, as the wire writes durations.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_contract_writes_them() {
        let message = ServerMessage::PermissionsChanged {
            pv: "abcd2345.42".parse().unwrap(),
            reason: Reason::Role,
            refresh_within_ms: 250,
            at: Timestamp::from_millis(0),
        };
        assert_eq!(
            message.encode(),
            r#"{"type":"permissions_changed","pv":"abcd2345.42","reason":"role","refresh_within_ms":250,"at":"1970-01-01T00:00:00.000Z"}"#
        );
    }

    #[test]
    fn client_messages_are_read_with_tolerance() {
        assert!(matches!(
            ClientMessage::decode(r#"{"type":"hello","token":"x","more":1}"#),
            Some(ClientMessage::Hello { token }) if token == "x"
        ));
        assert!(matches!(ClientMessage::decode(r#"{"type":"ping"}"#), Some(ClientMessage::Ping)));
        assert!(matches!(ClientMessage::decode(r#"{"type":"dance","token":3}"#), Some(ClientMessage::Unknown)));
        for bad in ["", "[]", r#"["ping"]"#, "{}", r#"{"type":"hello"}"#, r#"{"type":"hello","token":1}"#, "nonsense"] {
            assert!(ClientMessage::decode(bad).is_none(), "{bad}");
        }
    }
}
