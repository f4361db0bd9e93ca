//! What a replica is called, and where it is reached.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::domain::{Epoch, Random};

/// Where a replica that listens there is reached from its own machine.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

/// A name that no other replica has.
pub(super) fn replica_id(random: &dyn Random) -> String {
    format!("r-{}", Epoch::from_random(random.bytes()))
}
