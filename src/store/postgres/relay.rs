//! A way to the server of the tests, on which its answers are counted, and may be kept back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::testing::{Database, server};

/// Its end nearer to us. Ends with the runtime that it was made on.
pub(super) struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    trips: AtomicU64,
    losing: AtomicBool,
}

impl Relay {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, shared) = (listener.local_addr().unwrap().port(), Arc::<Shared>::default());
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", server().port)).await.unwrap();
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let ((mut near_in, near_out), (far_in, mut far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(async move { copy(&mut near_in, &mut far_out).await.map(drop) });
                tokio::spawn(answers(far_in, near_out, Arc::clone(&accepting)));
            }
        });
        Self { port, shared }
    }

    pub(super) fn url(&self, database: &Database) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}?sslmode=disable", self.port, database.name())
    }

    /// How often the server has said that it is ready for the next thing: once a trip.
    pub(super) fn trips(&self) -> u64 {
        self.shared.trips.load(Ordering::Relaxed)
    }

    /// In place of the next answer to a COMMIT comes what a pooler says whose server connection died, and the end.
    pub(super) fn lose_commit(&self) {
        self.shared.losing.store(true, Ordering::Relaxed);
    }
}

/// Passes on what the server says: messages of a letter, a length that counts itself, and the rest.
async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: Arc<Shared>) -> std::io::Result<()> {
    const LOST: &[u8] = b"SFATAL\0VFATAL\0C08P01\0Mserver conn crashed?\0\0";
    const COMMAND_COMPLETE: u8 = b'C';
    const READY_FOR_QUERY: u8 = b'Z';
    loop {
        let letter = from.read_u8().await?;
        let length = from.read_u32().await?;
        let mut rest = vec![0; length as usize - 4];
        from.read_exact(&mut rest).await?;
        if letter == READY_FOR_QUERY {
            shared.trips.fetch_add(1, Ordering::Relaxed);
        }
        if letter == COMMAND_COMPLETE && rest == b"COMMIT\0" && shared.losing.swap(false, Ordering::Relaxed) {
            let length = u32::try_from(LOST.len() + 4).unwrap().to_be_bytes();
            return to.write_all(&[&b"E"[..], &length, LOST].concat()).await;
        }
        to.write_all(&[&[letter][..], &length.to_be_bytes(), &rest].concat()).await?;
    }
}
