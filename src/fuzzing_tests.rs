//! A moment of fuzzing in every run of the tests: the seeds, and what a few thousand blind mutations make of them. The same
//! every time; `PERMCAST_FUZZ_SECONDS` and `PERMCAST_FUZZ_SEED` make it longer and another one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::TARGETS;

/// What readers look for.
const WORDS: [&[u8]; 24] = [
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b".",
    b"*",
    b"=",
    b"&",
    b"%2F",
    b"%00",
    b"\\u0000",
    b"null",
    b"-1",
    b"1e999",
    b"permcast:",
    b"permcast:operator",
    b"\n",
    b"..",
    b"\xff",
    b"\x81\xfe",
    b"\x81\xff",
];

/// xorshift64*: the same dice on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap() % below.max(1)
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no seeds");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One small alteration.
fn alter(data: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.roll(data.len() + 1);
    let end = (at + dice.roll(16)).min(data.len());
    match dice.roll(8) {
        0 if at < data.len() => data[at] ^= 1 << dice.roll(8),
        1 if at < data.len() => data[at] = u8::try_from(dice.roll(256)).unwrap(),
        2 => drop(data.drain(at..end)),
        3 => {
            let again = data[at..end].to_vec();
            data.splice(at..at, again);
        }
        4 | 5 => drop(data.splice(at..at, WORDS[dice.roll(WORDS.len())].iter().copied())),
        6 => {
            let other = &seeds[dice.roll(seeds.len())];
            let from = dice.roll(other.len() + 1);
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
        _ => data.truncate(at),
    }
}

#[test]
fn no_reader_is_brought_out_of_step() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = setting("PERMCAST_FUZZ_SEED").unwrap_or(1);
    let time = setting("PERMCAST_FUZZ_SECONDS").map(Duration::from_secs);
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (begun, mut runs) = (Instant::now(), 0);
        let goes_on = |runs: u32| time.map_or(runs < 4_000, |time| begun.elapsed() < time);
        let mut inputs = seeds.clone();
        while goes_on(runs) {
            let data = inputs.pop().unwrap_or_else(|| {
                let mut data = seeds[dice.roll(seeds.len())].clone();
                (0..=dice.roll(6)).for_each(|_| alter(&mut data, &seeds, &mut dice));
                data
            });
            let ran = catch_unwind(AssertUnwindSafe(|| target(&data)));
            assert!(ran.is_ok(), "{name}, seed {seed}, run {runs}: {}", data.escape_ascii());
            runs += 1;
        }
    }
}
