//! Positions in the change log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::name::InvalidName;

/// One life of the log: drawn when it is created or restored. Positions of two epochs cannot be compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch([u8; 8]);

impl Epoch {
    /// An epoch from random bits.
    pub fn from_random(bits: [u8; 8]) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        Self(bits.map(|b| ALPHABET[usize::from(b & 31)]))
    }

    /// The eight characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an epoch holds ASCII letters and digits only")
    }
}

impl FromStr for Epoch {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match <[u8; 8]>::try_from(text.as_bytes()) {
            Ok(bytes) if bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) => Ok(Self(bytes)),
            _ => Err(InvalidName("an epoch is 8 characters of a-z 0-9")),
        }
    }
}

/// A position within one epoch: 1, 2, 3 …; 0 is before the first change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// Before the first change.
    pub const ZERO: Self = Self(0);
    /// The highest position that a [`Stamp`] can hold.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// A position; `None` above [`Seq::MAX`].
    pub const fn new(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position that holds everywhere: `<epoch>.<seq>` on the wire (`pv`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    /// Which life of the log.
    pub epoch: Epoch,
    /// Where in it.
    pub seq: Seq,
}

impl FromStr for Version {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        const RULE: InvalidName = InvalidName("a version is <epoch>.<seq>");
        let (epoch, seq) = text.split_once('.').ok_or(RULE)?;
        let canonical = seq == "0" || (seq.bytes().all(|b| b.is_ascii_digit()) && !seq.starts_with('0'));
        let seq = seq.parse().ok().filter(|_| canonical).and_then(Seq::new).ok_or(RULE)?;
        Ok(Self { epoch: epoch.parse().map_err(|_| RULE)?, seq })
    }
}

/// A position inside one process: which of the epochs it has lived through, and the seq, packed into one word that
/// an atomic `max` can lift. A later epoch is always higher. Never leaves the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(u64);

impl Stamp {
    /// Below every position: nothing that carries it is ever fresh.
    pub const NEVER: Self = Self(0);
    const SEQ_BITS: u32 = 48;

    /// A position in the process's `generation`-th epoch, counted from 1.
    pub const fn new(generation: u16, seq: Seq) -> Self {
        Self(((generation as u64) << Self::SEQ_BITS) | seq.0)
    }

    /// Which of the process's epochs.
    pub const fn generation(self) -> u16 {
        (self.0 >> Self::SEQ_BITS) as u16
    }

    /// Where in it.
    pub const fn seq(self) -> Seq {
        Seq(self.0 & Seq::MAX.0)
    }

    /// The packed word.
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// From the packed word.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
serde_as_text!(Epoch);
serde_as_text!(Version);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_back_what_it_writes() {
        let version: Version = "abcd2345.42".parse().unwrap();
        assert_eq!(version.to_string(), "abcd2345.42");
        for bad in [
            "",
            "abcd2345",
            "abcd2345.",
            "abcd2345.-1",
            "abcd2345.+1",
            "abcd2345.01",
            "ABCD2345.1",
            "abc.1",
            "abcd2345.281474976710656",
        ] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_later_epoch_is_always_higher() {
        assert!(Stamp::new(2, Seq::ZERO) > Stamp::new(1, Seq::MAX));
        let stamp = Stamp::new(7, Seq(42));
        assert_eq!((stamp.generation(), stamp.seq()), (7, Seq(42)));
        assert_eq!(Stamp::from_word(stamp.to_word()), stamp);
    }

    #[test]
    fn random_epochs_parse() {
        for seed in 0..=255u8 {
            let epoch = Epoch::from_random([seed; 8]);
            assert_eq!(epoch.as_str().parse(), Ok(epoch));
        }
    }
}
