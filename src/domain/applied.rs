//! How far this replica has come: the one word that the feed writes and everybody reads.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::sync::{AtomicU64, RwLock};
use super::version::{Epoch, Seq, Stamp, Version};

/// The epochs that this process has lived through, and the position that it has applied in the current one.
#[derive(Debug)]
pub struct Applied {
    word: AtomicU64,
    /// The epoch of generation `i + 1` is at `i`.
    epochs: RwLock<Vec<Epoch>>,
}

impl Applied {
    /// Nothing is applied yet in the process's first epoch.
    pub fn new(epoch: Epoch) -> Self {
        Self { word: AtomicU64::new(Stamp::new(1, Seq::ZERO).to_word()), epochs: RwLock::new(vec![epoch]) }
    }

    /// The position applied here. All floors up to it were raised before it could be read.
    pub fn stamp(&self) -> Stamp {
        Stamp::from_word(self.word.load(Ordering::Acquire))
    }

    /// The same, as the wire writes it (`pv`).
    pub fn version(&self) -> Version {
        let (epoch, stamp) = self.current();
        Version { epoch, seq: stamp.seq() }
    }

    /// The current epoch.
    pub fn epoch(&self) -> Epoch {
        self.version().epoch
    }

    /// The current generation.
    pub fn generation(&self) -> u16 {
        self.stamp().generation()
    }

    /// A version of the current epoch as a position here; `None` for one of any other epoch, which is never fresh.
    pub fn stamp_of(&self, version: Version) -> Option<Stamp> {
        let (epoch, applied) = self.current();
        (epoch == version.epoch).then(|| Stamp::new(applied.generation(), version.seq))
    }

    /// A position here as the wire writes it. One of an earlier epoch becomes the start of the current one, which is
    /// what a client of that epoch must reach at least.
    pub fn version_of(&self, stamp: Stamp) -> Version {
        let (epoch, applied) = self.current();
        let seq = if stamp.generation() == applied.generation() { stamp.seq() } else { Seq::ZERO };
        Version { epoch, seq }
    }

    /// Epoch and position that belong together: the word is read once, so that an epoch which begins meanwhile can
    /// never lend its generation to a position of the one before.
    fn current(&self) -> (Epoch, Stamp) {
        let stamp = self.stamp();
        let epochs = self.epochs.read().unwrap_or_else(PoisonError::into_inner);
        (epochs[usize::from(stamp.generation()) - 1], stamp)
    }

    /// Says that everything up to `seq` of the current epoch is applied. For the feed alone.
    pub fn advance(&self, seq: Seq) {
        self.word.fetch_max(Stamp::new(self.generation(), seq).to_word(), Ordering::AcqRel);
    }

    /// Begins another epoch, with nothing of it applied; answers its generation. For the feed alone, after the floors
    /// of everything before were closed.
    pub fn begin_epoch(&self, epoch: Epoch) -> u16 {
        let mut epochs = self.epochs.write().unwrap_or_else(PoisonError::into_inner);
        epochs.push(epoch);
        let generation = u16::try_from(epochs.len()).expect("a process lives through fewer than 65,536 restores");
        self.word.store(Stamp::new(generation, Seq::ZERO).to_word(), Ordering::Release);
        generation
    }

    /// Whether this process has lived through that epoch, or does.
    pub fn has_lived(&self, epoch: Epoch) -> bool {
        self.epochs.read().unwrap_or_else(PoisonError::into_inner).contains(&epoch)
    }

    /// The generation that the next epoch will have.
    pub fn next_generation(&self) -> u16 {
        self.generation() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_follow_the_epoch() {
        let (one, two): (Epoch, Epoch) = ("aaaaaaaa".parse().unwrap(), "bbbbbbbb".parse().unwrap());
        let seq = |n| Seq::new(n).unwrap();
        let applied = Applied::new(one);
        applied.advance(seq(5));
        applied.advance(seq(3));
        assert_eq!(applied.version(), Version { epoch: one, seq: seq(5) });
        let old = applied.stamp();
        assert!(!applied.has_lived(two));
        applied.begin_epoch(two);
        assert!(applied.has_lived(one) && applied.has_lived(two));
        assert!(applied.stamp() > old);
        assert_eq!(applied.version(), Version { epoch: two, seq: Seq::ZERO });
        assert_eq!(applied.stamp_of(Version { epoch: one, seq: seq(9) }), None);
        assert_eq!(applied.version_of(old), applied.version());
    }
}
