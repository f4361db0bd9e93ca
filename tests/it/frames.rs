//! Where a frame of the NATS protocol begins and ends, and which subject a message has.

/// Something whole that goes one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Of a message; `None` for everything else that is said on the connection.
    pub(crate) subject: Option<String>,
}

impl Frame {
    /// The same with a bit turned in the middle of what it carries.
    pub(crate) fn damaged(mut self) -> Vec<u8> {
        // The payload comes last, before the line's end, and is the longer part of every message of ours.
        let at = self.bytes.len() - 2 - 16;
        self.bytes[at] ^= 1;
        self.bytes
    }
}

/// Cuts a stream of bytes into frames.
pub(crate) struct Cutter {
    nats: bool,
    buffer: Vec<u8>,
}

impl Cutter {
    /// For NATS; otherwise whatever came together is a frame.
    pub(crate) fn new(nats: bool) -> Self {
        Self { nats, buffer: Vec::new() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        if self.buffer.is_empty() {
            return None;
        }
        if !self.nats {
            return Some(Frame { bytes: std::mem::take(&mut self.buffer), subject: None });
        }
        let line = self.buffer.windows(2).position(|end| end == b"\r\n")? + 2;
        let control = std::str::from_utf8(&self.buffer[..line - 2]).unwrap_or_default();
        let mut words = control.split_ascii_whitespace();
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        let (length, subject) = match verb.as_str() {
            // The last word says how much follows; a line's end follows that.
            "MSG" | "HMSG" | "PUB" | "HPUB" => {
                let subject = words.next().map(str::to_owned);
                let payload: usize = words.last().and_then(|size| size.parse().ok()).unwrap_or(0);
                (line + payload + 2, subject)
            }
            _ => (line, None),
        };
        if self.buffer.len() < length {
            return None;
        }
        let rest = self.buffer.split_off(length);
        Some(Frame { bytes: std::mem::replace(&mut self.buffer, rest), subject })
    }
}

#[test]
fn frames_are_cut_wherever_the_stream_is_torn() {
    let stream =
        b"INFO {}\r\nPING\r\nHMSG a.b 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\nMSG c 2 2\r\n\r\n\r\nPUB d 0\r\n\r\n+OK\r\n";
    let subjects = [None, None, Some("a.b"), Some("c"), Some("d"), None];
    for step in 1..stream.len() {
        let mut cutter = Cutter::new(true);
        let mut frames = Vec::new();
        for part in stream.chunks(step) {
            cutter.push(part);
            frames.extend(std::iter::from_fn(|| cutter.next()));
        }
        let found: Vec<_> = frames.iter().map(|frame| frame.subject.as_deref()).collect();
        assert_eq!(found, subjects, "in steps of {step}");
        assert_eq!(frames.iter().flat_map(|frame| frame.bytes.clone()).collect::<Vec<_>>(), stream);
    }
}
