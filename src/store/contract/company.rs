//! The small company that most cases begin with.

use crate::domain::operation::{NewUser, UserPatch};
use crate::domain::permission::{ADMIN, CHECK, OPERATOR};

use super::bench::{Bench, password};
use super::words::{add_role, add_tenant, add_user, create_user, give, new_user, patch_user, permit, within};

/// In `default`: `ada` is the operator, `max` an administrator, `ben` an editor (which includes viewer), `cleo` has
/// nothing; `vera` may check. In `acme`: `zoe` is its administrator, `yan` has nothing.
pub(crate) async fn company(bench: &Bench) {
    bench
        .does([
            add_role("viewer", &["invoices:read"], &[]),
            add_role("editor", &["invoices:write"], &["viewer"]),
            add_role("admins", &[ADMIN], &[]),
            add_role("operators", &[OPERATOR], &[]),
            add_role("checkers", &[CHECK], &[]),
            create_user(NewUser { password: Some(password("ada")), ..new_user("ada") }),
            add_user("max"),
            create_user(NewUser { password: Some(password("ben")), ..new_user("ben") }),
            add_user("cleo"),
            add_user("vera"),
            give("ada", "operators"),
            give("max", "admins"),
            give("ben", "editor"),
            give("vera", "checkers"),
            add_tenant("acme"),
            within("acme", add_role("admins", &[ADMIN], &[])),
            within("acme", add_user("zoe")),
            within("acme", add_user("yan")),
            within("acme", give("zoe", "admins")),
            patch_user("ben", UserPatch { name: Some("Ben".to_owned()), ..UserPatch::default() }),
            permit("ben", "reports:read"),
        ])
        .await;
}
