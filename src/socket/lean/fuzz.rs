//! Frames as strangers send them.

use super::inbound::{Inbound, Said};
use crate::domain::limits::SOCKET_MESSAGE_BYTES_MAX;
use crate::socket::Received;

/// What bytes say, up to the end that they bring about.
fn said(chunks: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<String> {
    let (mut inbound, mut all) = (Inbound::new(&[]), Vec::new());
    for chunk in chunks {
        inbound.extend(chunk.as_ref());
        while let Some(one) = inbound.next() {
            let (text, ends) = match one {
                Said::Ping(bytes) => (format!("ping {bytes:?}"), false),
                Said::Close(bytes) => (format!("close {bytes:?}"), true),
                Said::Received(Received::Text(text)) => {
                    assert!(text.len() <= SOCKET_MESSAGE_BYTES_MAX, "a message of {} bytes", text.len());
                    (format!("text {text}"), false)
                }
                Said::Received(Received::Part) => ("part".to_owned(), false),
                Said::Received(Received::Binary) => ("binary".to_owned(), true),
                Said::Received(Received::NotUtf8) => ("not UTF-8".to_owned(), true),
                // Too large or a violation: of a frame that is both, the one that is seen first.
                Said::Received(_) => ("refused".to_owned(), true),
            };
            all.push(text);
            if ends {
                return all;
            }
        }
    }
    all
}

/// Bytes say the same however the network cut them.
pub fn frames(data: &[u8]) {
    let whole = said([data]);
    assert_eq!(said(data.chunks(1)), whole, "byte by byte");
    let cut = usize::from(data.first().copied().unwrap_or(0)).min(data.len());
    let (first, second) = data.split_at(cut);
    assert_eq!(said([first, second]), whole, "cut at {cut}");
}
