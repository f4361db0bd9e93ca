//! TLS on the listener: the certificate, taken up anew when its files change, and handshakes that are bounded.
//!
//! A handshake costs a signature, a hundred times what a decision costs. So each worker computes one at a time and goes
//! round its other work in between, and a client that came before within the life of a ticket needs no signature at all.

mod itself;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_rustls::rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ProducesTickets;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, rustls::server::Acceptor};
use tokio_util::sync::CancellationToken;

use crate::config::TlsFiles;

/// Time for a handshake. A phone far away takes one second.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Handshakes under way in the process: some 20 KB each. The next wait, as a socket and no more.
const HANDSHAKES_AT_ONCE: usize = 1024;
/// How often the files are looked at. SIGHUP asks for it at once.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Why a certificate is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("tls_cert: no certificate can be read from {path}", path = .0.display())]
    Certificate(PathBuf, #[source] pem::Error),
    #[error("tls_key: no private key can be read from {path}", path = .0.display())]
    Key(PathBuf, #[source] pem::Error),
    #[error("tls_cert, tls_key: {certificate} and {key} cannot be used together",
        certificate = .0.certificate.display(), key = .0.key.display())]
    Pair(TlsFiles, #[source] rustls::Error),
    #[error("TLS is not to be had")]
    Provider(#[from] rustls::Error),
}

/// What all workers share.
pub struct Tls {
    files: TlsFiles,
    /// Outlives the certificate, so that who comes back is known after a change of it.
    tickets: Arc<dyn ProducesTickets>,
    current: ArcSwap<Current>,
    under_way: Semaphore,
}

/// A certificate in use.
struct Current {
    leaf: CertificateDer<'static>,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let tickets = Ticketer::new()?;
        let current = ArcSwap::from_pointee(Current::read(&files, &tickets)?);
        Ok(Self { files, tickets, current, under_way: Semaphore::new(HANDSHAKES_AT_ONCE) })
    }

    /// Reads them again. What is faulty changes nothing. Tells whether there is another certificate now.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let read = Current::read(&self.files, &self.tickets)?;
        let before = self.current.swap(Arc::new(read));
        Ok(before.leaf != self.current.load().leaf)
    }

    /// The certificate that is shown.
    pub fn leaf(&self) -> CertificateDer<'static> {
        self.current.load().leaf.clone()
    }

    /// Looks at the files again now and then, and when somebody asks for it by SIGHUP, until told to stop.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut asked = signal(SignalKind::hangup()).ok();
        loop {
            let asked = async {
                match &mut asked {
                    Some(asked) => asked.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = asked => {}
            }
            let this = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || this.reload()).await {
                Ok(Ok(false)) | Err(_) => {}
                Ok(Ok(true)) => tracing::info!("there is a new certificate, and it is in use"),
                Ok(Err(error)) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the certificate's files cannot be used; the one from before stays"
                ),
            }
        }
    }

    /// Shakes hands, in time and in turn.
    pub(super) async fn accept(&self, turn: &Turn, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let shaking = async {
            // Who says nothing takes nobody's place.
            socket.readable().await?;
            let _place = self.under_way.acquire().await.map_err(io::Error::other)?;
            let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
            let mut shaking = pin!(hello.into_stream(Arc::clone(&self.current.load().config)));
            let at_once = {
                let _turn = turn.0.acquire().await.map_err(io::Error::other)?;
                let at_once = std::future::poll_fn(|context| Poll::Ready(shaking.as_mut().poll(context))).await;
                tokio::task::yield_now().await;
                at_once
            };
            match at_once {
                Poll::Ready(done) => done,
                Poll::Pending => shaking.await,
            }
        };
        tokio::time::timeout(HANDSHAKE_WITHIN, shaking).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Whose turn it is on one worker to compute a signature.
pub(super) struct Turn(Semaphore);

impl Turn {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Current {
    fn read(files: &TlsFiles, tickets: &Arc<dyn ProducesTickets>) -> Result<Self, TlsError> {
        let chain =
            chain(&files.certificate).map_err(|error| TlsError::Certificate(files.certificate.clone(), error))?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::Key(files.key.clone(), error))?;
        let leaf = chain[0].clone();
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::Pair(files.clone(), error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = Arc::clone(tickets);
        Ok(Self { leaf, config: Arc::new(config) })
    }
}

/// At least one certificate.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let chain = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) }
}
