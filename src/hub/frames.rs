//! The frame of a change, built once for all who get it.

use std::sync::{Mutex, PoisonError};

use super::mailbox::Notice;
use crate::protocol::frame::TextFrame;

/// Frames that are kept: those of the changes under way at one moment.
const KEPT: usize = 8;

/// The frames built last.
#[derive(Debug, Default)]
pub(super) struct Frames(Mutex<Vec<(Notice, TextFrame)>>);

impl Frames {
    /// The frame of this notice.
    pub(super) fn get(&self, notice: Notice, build: impl FnOnce() -> String) -> TextFrame {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = kept.iter().rev().find(|(known, _)| *known == notice) {
            return frame.clone();
        }
        let frame = TextFrame::new(&build());
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((notice, frame.clone()));
        frame
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{Stamp, Timestamp};
    use crate::protocol::socket::Reason;

    #[test]
    fn one_notice_is_built_once() {
        let frames = Frames::default();
        let notice = |word| Notice {
            stamp: Stamp::from_word(word),
            reason: Reason::Role,
            refresh_within: Duration::ZERO,
            at: Timestamp::default(),
        };
        assert_eq!(frames.get(notice(1), || "built".into()).text(), "built");
        assert_eq!(frames.get(notice(1), || panic!("built again")).text(), "built");
        for word in 2..=u64::try_from(KEPT).unwrap() + 1 {
            frames.get(notice(word), || "other".into());
        }
        assert_eq!(frames.get(notice(1), || "forgotten".into()).text(), "forgotten");
    }
}
