//! The floor: a loop that holds sockets and writes the same frame to each, and does nothing else. Two threads, as two
//! cores are there.

use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::wire::{TEXT, unmasked};

const THREADS: usize = 2;

type Sockets = [Mutex<Vec<TcpStream>>; THREADS];

/// Accepts until the parent has gone; for each line from it, writes that line to every socket.
pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap();
    let sockets: Arc<Sockets> = Arc::default();
    let listener = {
        let _inside = runtime.enter();
        listen()
    };
    println!("{}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    runtime.spawn(accept(listener, Arc::clone(&sockets)));
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let frame = unmasked(TEXT, line.as_bytes());
        std::thread::scope(|scope| {
            for half in sockets.iter() {
                scope.spawn(|| {
                    let sockets = half.lock().unwrap_or_else(PoisonError::into_inner);
                    // A socket that does not take it is one whose client has gone.
                    sockets.iter().for_each(|socket| drop(socket.try_write(&frame)));
                });
            }
        });
    }
}

fn listen() -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    socket.listen(4096).unwrap()
}

async fn accept(listener: TcpListener, sockets: Arc<Sockets>) {
    for number in 0.. {
        let Ok((stream, _)) = listener.accept().await else { return };
        let sockets = Arc::clone(&sockets);
        tokio::spawn(async move {
            if let Ok(stream) = welcome(stream).await {
                sockets[number % THREADS].lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            }
        });
    }
}

async fn welcome(mut stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    if stream.read(&mut buffer).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await?;
    if stream.read(&mut buffer).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    stream.write_all(&unmasked(TEXT, br#"{"type":"welcome"}"#)).await?;
    Ok(stream)
}
