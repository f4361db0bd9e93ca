//! What is to be written and the kernel has not taken yet. Pure; mostly there is none of it.

use std::collections::VecDeque;

use actix_http::ws::{OpCode, Parser};
use actix_web::web::{Bytes, BytesMut};

use super::speech::Speech;
use crate::domain::{Boottime, Stamp};
use crate::socket::driver::Out;

/// What follows once it is written whole.
pub(super) enum Piece {
    /// It was `permissions_changed`.
    Notice(Stamp),
    /// It was our close: the client's is waited for.
    Last,
    /// It answered the client's close: there is nothing to wait for.
    Farewell,
    Other,
}

/// Pieces, of the first of which a part may be written.
#[derive(Default)]
pub(super) struct Outbound {
    pieces: VecDeque<(Bytes, Piece)>,
    written: usize,
    /// When it is too long ago that the kernel took any.
    pub(super) due: Option<Boottime>,
}

impl Outbound {
    /// What goes before all.
    pub(super) fn new(bytes: Bytes) -> Self {
        let pieces = if bytes.is_empty() { VecDeque::new() } else { VecDeque::from([(bytes, Piece::Other)]) };
        Self { pieces, ..Self::default() }
    }

    /// Nothing, in room that was used before.
    pub(super) fn within(pieces: VecDeque<(Bytes, Piece)>) -> Self {
        Self { pieces, ..Self::default() }
    }

    /// The room of what is written.
    pub(super) fn room(self) -> VecDeque<(Bytes, Piece)> {
        self.pieces
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.due.is_none()
    }

    pub(super) fn extend(&mut self, out: &mut VecDeque<Out>, speech: Speech) {
        self.pieces.extend(out.drain(..).map(|out| match out {
            Out::Text(frame) => (speech.text(&frame), Piece::Other),
            Out::Notice(frame, stamp) => (speech.text(&frame), Piece::Notice(stamp)),
            Out::Close(code) => (speech.close(code), Piece::Last),
        }));
    }

    pub(super) fn pong(&mut self, bytes: &Bytes) {
        let mut frame = BytesMut::new();
        Parser::write_message(&mut frame, bytes, OpCode::Pong, true, false);
        self.pieces.push_back((frame.freeze(), Piece::Other));
    }

    /// The answer to the client's close. Nothing goes after it.
    pub(super) fn farewell(&mut self, frame: Bytes) {
        self.pieces.push_back((frame, Piece::Farewell));
    }

    /// Nothing more is to be said than what was begun.
    pub(super) fn give_up(&mut self) {
        self.pieces.truncate(usize::from(self.written > 0));
    }

    /// What comes next.
    pub(super) fn first(&self) -> Option<&[u8]> {
        self.pieces.front().map(|(bytes, _)| &bytes[self.written..])
    }

    /// So many bytes of it were written; the piece that is whole by that.
    pub(super) fn wrote(&mut self, bytes: usize) -> Option<Piece> {
        self.written += bytes;
        if self.pieces.front().is_some_and(|(piece, _)| self.written < piece.len()) {
            return None;
        }
        self.written = 0;
        self.pieces.pop_front().map(|(_, piece)| piece)
    }
}
