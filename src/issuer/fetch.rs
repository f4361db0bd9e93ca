//! Fetching a provider's documents: one GET, to an address that was looked at before, in bounded time and size. No
//! redirect is followed, no proxy is used, and nothing is sent that the provider does not know.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use url::{Host, Url};

use super::address::is_public;
use crate::config::is_safe_to_fetch;

/// For one document, from the look-up of its host to its last byte.
const WITHIN: Duration = Duration::from_secs(5);
/// A document's size: that of the largest providers is a tenth of it.
const BYTES_MAX: usize = 256 * 1024;
/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 4;

/// Where a document's address may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Wherever its host is: the settings name it.
    Anywhere,
    /// To public addresses alone: a document of somebody else's names it.
    World,
}

/// Why a document was not had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("its address is not https")]
    Scheme,
    #[error("its host has no address")]
    NoAddress(#[source] Option<io::Error>),
    #[error("its host has an address that is not public, and the settings do not name it")]
    NotPublic,
    #[error("nobody answers there")]
    Connect(#[source] Option<io::Error>),
    #[error("what answers there does not prove to be its host")]
    Tls(#[source] io::Error),
    #[error("what answers there does not speak HTTP")]
    Http(#[from] hyper::Error),
    #[error("the answer is {0}; a redirect is not followed")]
    Status(StatusCode),
    #[error("it has more than {BYTES_MAX} bytes")]
    TooLarge,
    #[error("it did not come within {} s", WITHIN.as_secs())]
    TooSlow,
}

/// Fetches documents.
pub(super) struct Fetcher {
    tls: TlsConnector,
}

impl Fetcher {
    /// One that believes the certificate authorities of the system.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!("this system has no certificate authorities: identity providers cannot be asked by https");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// The document's bytes.
    pub(super) async fn get(&self, url: &Url, reach: Reach) -> Result<Vec<u8>, FetchError> {
        tokio::time::timeout(WITHIN, self.fetch(url, reach)).await.unwrap_or(Err(FetchError::TooSlow))
    }

    async fn fetch(&self, url: &Url, reach: Reach) -> Result<Vec<u8>, FetchError> {
        let (Some(host), Some(port), true) = (url.host(), url.port_or_known_default(), is_safe_to_fetch(url)) else {
            return Err(FetchError::Scheme);
        };
        let is_plain = url.scheme() == "http";
        let addresses = resolve(&host, port).await?;
        let may_go = |address: &SocketAddr| match (is_plain, reach) {
            (true, _) => address.ip().is_loopback(),
            (false, Reach::Anywhere) => true,
            (false, Reach::World) => is_public(address.ip()),
        };
        // One that does not fit spoils all: which of them would be taken is for whoever answers the look-up to say.
        if !addresses.iter().all(may_go) || (is_plain && reach == Reach::World) {
            return Err(FetchError::NotPublic);
        }
        // To the address that was looked at: a second look-up could answer another.
        let stream = connect(&addresses).await?;
        if is_plain {
            return get(stream, url).await;
        }
        let name = match host {
            Host::Domain(name) => {
                let name = ServerName::try_from(name.to_owned());
                name.map_err(|_| FetchError::NoAddress(None))?
            }
            Host::Ipv4(address) => ServerName::IpAddress(std::net::IpAddr::V4(address).into()),
            Host::Ipv6(address) => ServerName::IpAddress(std::net::IpAddr::V6(address).into()),
        };
        get(self.tls.connect(name, stream).await.map_err(FetchError::Tls)?, url).await
    }
}

async fn resolve(host: &Host<&str>, port: u16) -> Result<Vec<SocketAddr>, FetchError> {
    let addresses = match host {
        Host::Domain(name) => {
            let found = tokio::net::lookup_host((*name, port)).await;
            found.map_err(|error| FetchError::NoAddress(Some(error)))?.collect()
        }
        Host::Ipv4(address) => vec![SocketAddr::from((*address, port))],
        Host::Ipv6(address) => vec![SocketAddr::from((*address, port))],
    };
    if addresses.is_empty() { Err(FetchError::NoAddress(None)) } else { Ok(addresses) }
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    let mut last = None;
    for address in addresses.iter().take(ADDRESSES_MAX) {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(FetchError::Connect(last))
}

async fn get(stream: impl AsyncRead + AsyncWrite + Unpin, url: &Url) -> Result<Vec<u8>, FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("permcast/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("a URL's host and path are a request's");
    let exchange = async move {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let (mut body, mut bytes) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                if bytes.len() + data.len() > BYTES_MAX {
                    return Err(FetchError::TooLarge);
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes)
    };
    // The connection is driven beside it. How it ends, the exchange is told.
    let driven = async {
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = exchange => answer,
        never = driven => never,
    }
}
