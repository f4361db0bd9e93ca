//! Every bound, with its unit and reason. What an operator may want otherwise is a setting in `config`.

use std::time::Duration;

use super::pace::Rate;

/// Leeway for `exp` and `nbf` between our own replicas' clocks and others'.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(5);

/// How long a tab that shares a refresh token with others may still use the one before.
pub const REFRESH_GRACE: Duration = Duration::from_secs(10);

/// Longest wait for `Permcast-At-Least` before 503: longer than any healthy propagation, shorter than a client's patience.
pub const AT_LEAST_WAIT: Duration = Duration::from_secs(1);

/// Longest `Prefer: wait`.
pub const PREFER_WAIT_MAX: Duration = Duration::from_secs(30);

/// Longest wait for an own write to be applied here before it is answered. Normally a fraction of a millisecond.
pub const OWN_WRITE_WAIT: Duration = Duration::from_secs(1);

/// A request body, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The body of `/batch`, in bytes.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Operations in one `/batch`.
pub const BATCH_OPERATIONS_MAX: usize = 1000;
/// A WebSocket message from a client, in bytes.
pub const SOCKET_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Items of a list that names no `limit`.
pub const PAGE_DEFAULT: u32 = 100;
/// Items of a list at the most.
pub const PAGE_MAX: u32 = 1000;

/// Time for the whole body of a request: enough for the largest at half a megabit a second, and an end to one that never comes.
pub const BODY_WITHIN: Duration = Duration::from_secs(20);
/// Time for the first message of a connection that brought no token.
pub const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// What one connection may say: far above what a tab does, which says a few words an hour, and far below what would cost
/// others anything.
pub const SOCKET_MESSAGES: Rate = Rate { burst: 256, every: Duration::from_millis(50) };
/// Time that a connection has to refresh after the delay it was told.
pub const REFRESH_OVERDUE: Duration = Duration::from_secs(30);

/// A fat token above this is minted thin under `auto`: room for other headers within the usual 8 KB.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Floors of users, roles and sessions: 16 bytes each at a load of at most one half, so at most 64 MB.
pub const FLOOR_ENTRIES_MAX: usize = 2_000_000;

/// Rows of one read of the log's tail: bounds its memory and the time that it holds the feed.
pub const TAIL_PAGE_ROWS: u32 = 10_000;

/// Grants that are deleted at once because their time is over, of roles and of permissions each: bounds how long others wait to
/// write when thousands end in one moment.
pub const EXPIRED_AT_ONCE: u32 = 500;

/// Permissions of one role, inclusions of one role, direct grants of one user.
pub const GRANTS_MAX: usize = 1000;

/// A token above this is not looked at, and none is minted: what fits, with its `hello` around it, into one message of a
/// WebSocket client.
pub const TOKEN_BYTES_ACCEPTED: usize = SOCKET_MESSAGE_BYTES_MAX - 128;

/// Verified tokens that are kept: about 2 KB each with the permissions of an ordinary user.
pub const VERIFIED_TOKENS_MAX: usize = 50_000;
/// Tokens of which it is kept that their signature holds, a hundred bytes each: as many as connections are let in by default.
pub const SIGNED_TOKENS_MAX: usize = 100_000;
