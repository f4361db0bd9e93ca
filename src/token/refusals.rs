//! Sign-ins that were refused, gathered until the audit trail is told: whoever guesses must not be able to make the disk
//! work.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::domain::{TenantName, UserId};
use crate::store::audit::RefusedSignIns;

/// Whoever and from wherever, each by himself; beyond it they are only counted.
const KEPT_MAX: usize = 1024;

/// Those since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counts: HashMap<(Option<(TenantName, UserId)>, IpAddr), u64>,
    beyond: u64,
}

impl Refusals {
    /// One more. A user is named where there is one of this name; what was typed may be a password.
    pub(super) fn add(&mut self, user: Option<(TenantName, UserId)>, address: IpAddr) {
        let key = (user, address);
        if self.counts.len() >= KEPT_MAX && !self.counts.contains_key(&key) {
            self.beyond += 1;
        } else {
            *self.counts.entry(key).or_default() += 1;
        }
    }

    /// All of them; from here on there are none.
    pub(super) fn take(&mut self) -> Vec<RefusedSignIns> {
        let Self { counts, beyond } = std::mem::take(self);
        let named = counts.into_iter().map(|((user, address), count)| RefusedSignIns {
            user,
            address: address.to_string(),
            count,
        });
        let rest = (beyond > 0).then(|| RefusedSignIns { user: None, address: String::new(), count: beyond });
        named.chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_is_counted_and_memory_is_bounded() {
        let mut refusals = Refusals::default();
        let ben = || Some(("default".parse().unwrap(), "ben".parse().unwrap()));
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        refusals.add(ben(), address(1));
        refusals.add(ben(), address(1));
        assert_eq!(refusals.take(), [RefusedSignIns { user: ben(), address: "0.0.0.1".into(), count: 2 }]);
        assert_eq!(refusals.take(), []);
        for n in 0..2_000 {
            refusals.add(None, address(n));
        }
        let taken = refusals.take();
        assert_eq!((taken.len(), taken.iter().map(|refused| refused.count).sum::<u64>()), (1_025, 2_000));
    }
}
