//! A text message as a server's WebSocket frame (RFC 6455, 5.2): whole, unmasked. Encoded once, shared by all who get it.

use bytestring::ByteString;

/// The frame, and the text in it. A clone shares its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFrame {
    whole: bytes::Bytes,
    /// Where the text begins.
    head: u8,
}

impl TextFrame {
    /// The frame of a text.
    pub fn new(text: &str) -> Self {
        /// FIN and the opcode of text.
        const FIRST: u8 = 0x81;
        let mut whole = Vec::with_capacity(text.len() + 4);
        whole.push(FIRST);
        match (u8::try_from(text.len()), u16::try_from(text.len())) {
            (Ok(short @ ..126), _) => whole.push(short),
            (_, Ok(length)) => {
                whole.push(126);
                whole.extend(length.to_be_bytes());
            }
            _ => {
                whole.push(127);
                whole.extend((text.len() as u64).to_be_bytes());
            }
        }
        let head = u8::try_from(whole.len()).expect("a head has at most ten bytes");
        whole.extend(text.as_bytes());
        Self { whole: whole.into(), head }
    }

    /// As it goes over the wire.
    pub fn whole(&self) -> &bytes::Bytes {
        &self.whole
    }

    /// What it says.
    pub fn text(&self) -> ByteString {
        let text = self.whole.slice(usize::from(self.head)..);
        text.try_into().expect("it was made of a text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_the_standard_writes_it() {
        for (length, head) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 255, 255]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let text = "x".repeat(length);
            let frame = TextFrame::new(&text);
            assert_eq!(frame.whole()[..head.len()], head);
            assert_eq!(frame.whole().len(), head.len() + length);
            assert_eq!(frame.text(), text);
        }
    }
}
