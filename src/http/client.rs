//! Where a request comes from, behind proxies that are trusted by name.

use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr};

use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpRequest, dev, web};
use ipnet::IpNet;

use super::problem::Problem;

/// `PERMCAST_TRUSTED_PROXIES`: networks whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(pub Vec<IpNet>);

/// The client's address: the right-most one outside the trusted networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(pub IpAddr);

impl TrustedProxies {
    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request from this peer, with these headers.
    pub fn address_of(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let values = headers.get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
        self.client_of(peer, hops.into_iter())
    }

    /// Walks from the peer leftward through what its proxies wrote, as far as it can be believed.
    pub fn client_of<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        for hop in forwarded.rev() {
            if !self.trusts(client) {
                break;
            }
            match parse_hop(hop) {
                Some(address) => client = address,
                None => break,
            }
        }
        client
    }
}

/// An address as proxies write it: some add the port, and brackets around IPv6.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let socket = || hop.parse::<std::net::SocketAddr>().map(|socket| socket.ip()).ok();
    let address = hop.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok().or_else(socket)?;
    Some(address.to_canonical())
}

/// The address of the client of a request.
pub fn client_address(request: &HttpRequest) -> IpAddr {
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let trusted = request.app_data::<web::Data<TrustedProxies>>();
    trusted.map_or(peer.to_canonical(), |trusted| trusted.address_of(peer, request.headers()))
}

impl FromRequest for ClientAddress {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(Ok(Self(client_address(request))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &str) -> String {
        let trusted = TrustedProxies(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        trusted.client_of(peer.parse().unwrap(), forwarded.split(',').collect::<Vec<_>>().into_iter()).to_string()
    }

    #[test]
    fn the_client_is_the_right_most_address_that_no_trusted_proxy_has() {
        assert_eq!(client("203.0.113.9", "198.51.100.1"), "203.0.113.9", "an untrusted peer says what it likes");
        assert_eq!(client("10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(client("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.2.3.4"), "198.51.100.1");
        assert_eq!(client("::1", "2001:db8::7"), "2001:db8::7");
        assert_eq!(client("::ffff:10.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(client("10.0.0.1", "[2001:db8::7]:4711"), "2001:db8::7");
        assert_eq!(client("10.0.0.1", "198.51.100.1:80"), "198.51.100.1");
        assert_eq!(client("10.0.0.1", "10.0.0.2"), "10.0.0.2", "all are trusted: the furthest");
        assert_eq!(client("10.0.0.1", "6.6.6.6, nonsense"), "10.0.0.1", "what cannot be read ends the walk");
        assert_eq!(client("10.0.0.1", ""), "10.0.0.1");
    }
}
