//! Limits on guessing passwords. A guess too many is told to wait, never locked out: who knows the password gets in after a
//! little while, and at once from where he has signed in before.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use aws_lc_rs::digest;

use crate::domain::Boottime;

/// So many failures at once, and one more each time that `every` has passed.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub burst: u32,
    pub every: Duration,
}

impl Rate {
    /// What one of so many replicas lets in, so that all together let in no more than this; one at least.
    fn shared_by(self, replicas: u32) -> Self {
        Self { burst: (self.burst / replicas).max(1), every: self.every * replicas }
    }
}

/// How many failures are borne, by all replicas together: each has its share, as failures are not written down.
#[derive(Debug, Clone, Copy)]
pub struct GuessLimits {
    /// For one account from one address.
    pub pair: Rate,
    /// For one account from all addresses together; an address where its user has signed in before is not held by it.
    pub account: Rate,
    /// From one address for all accounts together.
    pub address: Rate,
    /// Entries of each table: 24 bytes each.
    pub entries_max: usize,
}

impl Default for GuessLimits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            pair: Rate { burst: 20, every: seconds(6) },
            account: Rate { burst: 100, every: seconds(2) },
            address: Rate { burst: 300, every: seconds(1) },
            entries_max: 100_000,
        }
    }
}

/// How long an address counts as one where a user has signed in before.
const KNOWN_FOR: Duration = Duration::from_hours(30 * 24);

/// Half a SHA-256: short, of one size whatever was typed, and not to be made to collide.
type Key = [u8; 16];

/// One attempt to sign in, by what it is counted under.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pair: Key,
    account: Key,
    address: Key,
}

impl Attempt {
    /// An attempt on an account, which may not exist, as it was typed.
    pub(super) fn new(tenant: &str, login: &str, address: IpAddr) -> Self {
        let address = network(address).to_string();
        let login = login.to_lowercase();
        Self {
            pair: key(&["pair", tenant, &login, &address]),
            account: key(&["account", tenant, &login]),
            address: key(&["address", &address]),
        }
    }
}

/// One customer's addresses: IPv6 gives each a /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn key(parts: &[&str]) -> Key {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    *context.finish().as_ref().first_chunk().expect("SHA-256 is 32 bytes")
}

/// Moments by key, bounded: those that are over go first, then the half that would be over first.
#[derive(Debug)]
struct Moments {
    entries: HashMap<Key, Boottime>,
    entries_max: usize,
}

impl Moments {
    fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::new(), entries_max }
    }

    fn get(&self, key: &Key) -> Boottime {
        self.entries.get(key).copied().unwrap_or_default()
    }

    fn set(&mut self, key: Key, until: Boottime, now: Boottime) {
        if self.entries.len() >= self.entries_max && !self.entries.contains_key(&key) {
            self.entries.retain(|_, until| *until > now);
            if self.entries.len() >= self.entries_max {
                let mut moments: Vec<Boottime> = self.entries.values().copied().collect();
                let middle = moments.len() / 2;
                let median = *moments.select_nth_unstable(middle).1;
                self.entries.retain(|_, until| *until > median);
            }
        }
        self.entries.insert(key, until);
    }
}

/// The failures of late.
#[derive(Debug)]
pub(super) struct Guesses {
    /// Of the deployment.
    whole: GuessLimits,
    /// This replica's share.
    limits: GuessLimits,
    /// When all failures under a key will be forgiven (a leaky bucket in one word).
    forgiven: Moments,
    /// Pairs that have signed in, and until when that counts.
    known: Moments,
}

impl Guesses {
    pub(super) fn new(limits: GuessLimits) -> Self {
        Self {
            whole: limits,
            limits,
            forgiven: Moments::new(limits.entries_max),
            known: Moments::new(limits.entries_max),
        }
    }

    /// How many replicas share the limits.
    pub(super) fn set_live_replicas(&mut self, replicas: u32) {
        let share = |rate: Rate| rate.shared_by(replicas.max(1));
        let GuessLimits { pair, account, address, entries_max } = self.whole;
        self.limits = GuessLimits { pair: share(pair), account: share(account), address: share(address), entries_max };
    }

    /// Lets an attempt in, counted as a failure until it [succeeds](Self::succeeded), so that attempts side by side cannot
    /// outrun the count. Or says how long to wait; then nothing is counted.
    pub(super) fn admit(&mut self, attempt: &Attempt, now: Boottime) -> Result<(), Duration> {
        let known = self.known.get(&attempt.pair) > now;
        let limits = self.limits;
        let mut counted = Vec::with_capacity(3);
        let mut wait = Duration::ZERO;
        for (key, rate, applies) in [
            (attempt.pair, limits.pair, true),
            (attempt.account, limits.account, !known),
            (attempt.address, limits.address, true),
        ] {
            if applies {
                let until = Boottime(self.forgiven.get(&key).max(now).0 + rate.every);
                wait = wait.max(until.since(now).saturating_sub(rate.every * rate.burst));
                counted.push((key, until));
            }
        }
        if wait > Duration::ZERO {
            return Err(wait);
        }
        for (key, until) in counted {
            self.forgiven.set(key, until, now);
        }
        Ok(())
    }

    /// The attempt was no guess: it is not counted, earlier ones of the pair are forgiven, and the pair is known.
    pub(super) fn succeeded(&mut self, attempt: &Attempt, now: Boottime) {
        let known = self.known.get(&attempt.pair) > now;
        self.forgiven.entries.remove(&attempt.pair);
        if !known {
            self.give_back(attempt.account, self.limits.account);
        }
        self.give_back(attempt.address, self.limits.address);
        self.known.set(attempt.pair, Boottime(now.0 + KNOWN_FOR), now);
    }

    /// The attempt could not be decided: it is not counted.
    pub(super) fn undecided(&mut self, attempt: &Attempt, now: Boottime) {
        self.give_back(attempt.pair, self.limits.pair);
        if self.known.get(&attempt.pair) <= now {
            self.give_back(attempt.account, self.limits.account);
        }
        self.give_back(attempt.address, self.limits.address);
    }

    fn give_back(&mut self, key: Key, rate: Rate) {
        if let Some(until) = self.forgiven.entries.get_mut(&key) {
            *until = Boottime(until.0.saturating_sub(rate.every));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Boottime {
        Boottime(Duration::from_secs(1_000_000 + seconds))
    }

    fn attempt(login: &str, address: &str) -> Attempt {
        Attempt::new("default", login, address.parse().unwrap())
    }

    fn limits() -> GuessLimits {
        let rate = |burst, every| Rate { burst, every: Duration::from_secs(every) };
        GuessLimits { pair: rate(3, 10), account: rate(6, 10), address: rate(100, 1), entries_max: 1000 }
    }

    #[test]
    fn a_pair_is_slowed_and_let_in_again_after_the_time_it_was_told() {
        let mut guesses = Guesses::new(limits());
        let ben = attempt("ben", "192.0.2.1");
        for _ in 0..3 {
            assert_eq!(guesses.admit(&ben, at(0)), Ok(()));
        }
        assert_eq!(guesses.admit(&ben, at(0)), Err(Duration::from_secs(10)));
        assert_eq!(guesses.admit(&ben, at(4)), Err(Duration::from_secs(6)), "asking in vain costs nothing");
        assert_eq!(guesses.admit(&attempt("ben", "192.0.2.2"), at(4)), Ok(()), "another address");
        assert_eq!(guesses.admit(&attempt("cleo", "192.0.2.1"), at(4)), Ok(()), "another account");
        assert_eq!(guesses.admit(&ben, at(10)), Ok(()));
        guesses.succeeded(&ben, at(10));
        for _ in 0..3 {
            assert_eq!(guesses.admit(&ben, at(10)), Ok(()), "a success forgives");
        }
    }

    #[test]
    fn many_addresses_slow_an_account_but_not_where_its_user_is_known() {
        let mut guesses = Guesses::new(limits());
        let home = attempt("ben", "192.0.2.1");
        guesses.admit(&home, at(0)).unwrap();
        guesses.succeeded(&home, at(0));
        for host in 0..6 {
            assert_eq!(guesses.admit(&attempt("ben", &format!("198.51.100.{host}")), at(1)), Ok(()));
        }
        assert!(guesses.admit(&attempt("ben", "198.51.100.77"), at(1)).is_err());
        assert_eq!(guesses.admit(&home, at(1)), Ok(()));
    }

    #[test]
    fn one_address_is_slowed_over_all_accounts_and_a_64_is_one_address() {
        let mut guesses = Guesses::new(limits());
        for user in 0..100 {
            let host = format!("2001:db8::{user:x}");
            assert_eq!(guesses.admit(&attempt(&format!("u{user}"), &host), at(0)), Ok(()));
        }
        assert!(guesses.admit(&attempt("another", "2001:db8::ffff"), at(0)).is_err());
        assert_eq!(guesses.admit(&attempt("another", "2001:db8:0:1::1"), at(0)), Ok(()));
    }

    #[test]
    fn replicas_share_what_all_together_bear() {
        let mut replicas = [Guesses::new(limits()), Guesses::new(limits()), Guesses::new(limits())];
        for guesses in &mut replicas {
            guesses.set_live_replicas(3);
        }
        let ben = attempt("ben", "192.0.2.1");
        let mut admitted = |now| -> usize {
            replicas.iter_mut().map(|guesses| (0..50).filter(|_| guesses.admit(&ben, at(now)).is_ok()).count()).sum()
        };
        assert_eq!(admitted(0), 3);
        assert_eq!(admitted(29), 0);
        assert_eq!(admitted(30), 3, "one each 10 s, over all of them");
    }

    #[test]
    fn what_was_not_decided_does_not_count() {
        let mut guesses = Guesses::new(limits());
        let ben = attempt("ben", "192.0.2.1");
        for _ in 0..50 {
            guesses.admit(&ben, at(0)).unwrap();
            guesses.undecided(&ben, at(0));
        }
    }

    #[test]
    fn its_memory_is_bounded_and_the_worst_are_kept() {
        let mut guesses = Guesses::new(GuessLimits { entries_max: 30, ..limits() });
        let worst = attempt("ben", "192.0.2.1");
        for _ in 0..3 {
            guesses.admit(&worst, at(0)).unwrap();
        }
        for user in 0..500 {
            let _ = guesses.admit(&attempt(&format!("u{user}"), &format!("10.0.{}.{}", user / 200, user % 200)), at(1));
            assert!(guesses.forgiven.entries.len() <= 32);
        }
        assert!(guesses.admit(&worst, at(1)).is_err());
    }

    #[test]
    fn an_account_is_the_same_in_any_case_and_parts_do_not_run_together() {
        assert_eq!(attempt("Ben@X", "10.0.0.1").account, attempt("ben@x", "10.0.0.1").account);
        let address = "10.0.0.1".parse().unwrap();
        assert_ne!(Attempt::new("a", "bc", address).account, Attempt::new("ab", "c", address).account);
    }
}
