//! How many connections there may be: in all, from one address, of one tenant, of one user.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::pace::{Pace, Rate};
use crate::domain::{Boottime, TenantName};

/// Bounds on connections; all of them settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of this process. Beyond it a handshake is answered 503.
    pub total: usize,
    /// From one address (IPv6: one /64). Beyond it a handshake is answered 429. Loopback is not counted: it is a proxy or
    /// a test, not a client.
    pub per_address: usize,
    /// Of one tenant, so that one customer cannot take all.
    pub per_tenant: usize,
    /// Of one user: beyond it his oldest is closed (4429).
    pub per_user: usize,
    /// How many may come: those above it are answered 503 before anything is looked at, so that a herd that comes back at
    /// once leaves room for decisions.
    pub handshakes: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total: 100_000,
            per_address: 5_000,
            per_tenant: 50_000,
            per_user: 50,
            handshakes: Rate::per_second(16_000),
        }
    }
}

/// Why there is no room for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("this replica carries as many connections as it may")]
    Total,
    #[error("too many connect at once")]
    Rush,
    #[error("too many connections from one address")]
    Address,
    #[error("too many connections of one tenant")]
    Tenant,
}

impl Full {
    /// In a word, for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Rush => "rush",
            Self::Address => "address",
            Self::Tenant => "tenant",
        }
    }
}

/// How many connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Those that have not said hello included.
    pub connections: usize,
    /// Those that are registered.
    pub registered: usize,
    pub addresses: usize,
    pub tenants: usize,
}

#[derive(Debug, Default)]
struct Counts {
    coming: Pace,
    total: usize,
    registered: usize,
    addresses: HashMap<IpAddr, usize>,
    tenants: HashMap<TenantName, usize>,
}

fn add<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K, max: usize, full: Full) -> Result<(), Full> {
    let count = counts.entry(key).or_default();
    if *count >= max {
        return Err(full);
    }
    *count += 1;
    Ok(())
}

fn subtract<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// All seats of a replica.
#[derive(Debug, Default)]
pub(super) struct Seats {
    limits: Limits,
    counts: Mutex<Counts>,
}

impl Seats {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, counts: Mutex::default() })
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    fn with<T>(&self, f: impl FnOnce(&mut Counts) -> T) -> T {
        f(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A seat for a connection from `address`, before anybody knows whose it is.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, now: Boottime) -> Result<Seat, Full> {
        let address = counted(address);
        self.with(|counts| {
            if counts.total >= self.limits.total {
                return Err(Full::Total);
            }
            if !counts.coming.take(now, self.limits.handshakes) {
                return Err(Full::Rush);
            }
            if let Some(address) = address {
                add(&mut counts.addresses, address, self.limits.per_address, Full::Address)?;
            }
            counts.total += 1;
            Ok(())
        })?;
        Ok(Seat { seats: Arc::clone(self), address, tenant: None })
    }

    pub(super) fn totals(&self) -> Totals {
        self.with(|counts| Totals {
            connections: counts.total,
            registered: counts.registered,
            addresses: counts.addresses.len(),
            tenants: counts.tenants.len(),
        })
    }
}

/// What is counted as one address: whoever has an IPv6 network has 2^64 of them.
fn counted(address: IpAddr) -> Option<IpAddr> {
    let address = match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        one => one,
    };
    (!address.is_loopback()).then_some(address)
}

/// Room for one connection, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    address: Option<IpAddr>,
    tenant: Option<TenantName>,
}

impl Seat {
    /// Now it is known whose it is.
    pub(super) fn assign(&mut self, tenant: &TenantName) -> Result<(), Full> {
        self.seats.with(|counts| {
            add(&mut counts.tenants, tenant.clone(), self.seats.limits.per_tenant, Full::Tenant)?;
            counts.registered += 1;
            Ok(())
        })?;
        self.tenant = Some(tenant.clone());
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.with(|counts| {
            counts.total -= 1;
            if let Some(address) = self.address.take() {
                subtract(&mut counts.addresses, address);
            }
            if let Some(tenant) = self.tenant.take() {
                counts.registered -= 1;
                subtract(&mut counts.tenants, tenant);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits() -> Limits {
        Limits { total: 3, per_address: 2, per_tenant: 1, per_user: 1, ..Limits::default() }
    }

    #[test]
    fn a_seat_is_given_back_when_dropped() {
        let seats = Seats::new(limits());
        let address = "192.0.2.1".parse().unwrap();
        let mut first = seats.take(address, Boottime::default()).unwrap();
        let second = seats.take(address, Boottime::default()).unwrap();
        assert_eq!(seats.take(address, Boottime::default()).unwrap_err(), Full::Address);
        first.assign(&"acme".parse().unwrap()).unwrap();
        assert_eq!(seats.totals(), Totals { connections: 2, registered: 1, addresses: 1, tenants: 1 });
        drop(second);
        let mut third = seats.take(address, Boottime::default()).unwrap();
        assert_eq!(third.assign(&"acme".parse().unwrap()), Err(Full::Tenant));
        drop((first, third));
        assert_eq!(seats.totals(), Totals::default());
    }

    #[test]
    fn a_herd_is_let_in_by_and_by() {
        let seats = Seats::new(Limits { handshakes: Rate::per_second(2), ..Limits::default() });
        let come = |millis| seats.take("192.0.2.1".parse().unwrap(), Boottime(Duration::from_millis(millis)));
        let first = (come(5000).unwrap(), come(5000).unwrap());
        drop(first);
        assert_eq!(come(5000).unwrap_err(), Full::Rush, "it goes by how many come, not by how many there are");
        assert!(come(5500).is_ok());
    }

    #[test]
    fn a_network_is_one_address_and_loopback_is_none() {
        let seats = Seats::new(limits());
        let _a = seats.take("2001:db8::1".parse().unwrap(), Boottime::default()).unwrap();
        let _b = seats.take("2001:db8::2".parse().unwrap(), Boottime::default()).unwrap();
        assert_eq!(seats.take("2001:db8::3".parse().unwrap(), Boottime::default()).unwrap_err(), Full::Address);
        let _c = seats.take("::ffff:127.0.0.1".parse().unwrap(), Boottime::default()).unwrap();
        assert_eq!(seats.totals().addresses, 1);
        assert_eq!(seats.take("127.0.0.1".parse().unwrap(), Boottime::default()).unwrap_err(), Full::Total);
    }
}
