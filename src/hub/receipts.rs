//! How far each of the last changes has come with this replica's connections.

use std::collections::BTreeMap;

use crate::domain::{Seq, Stamp};
use crate::protocol::bus::Receipt;

/// Changes that are remembered; `propagation` asks about recent ones.
const KEPT: usize = 1024;

#[derive(Debug, Default, Clone, Copy)]
struct Row {
    affected: u64,
    notified: u64,
    refreshed: u64,
    /// Whether it came further since it was last handed out.
    moved: bool,
}

/// The last changes, by position.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    rows: BTreeMap<Stamp, Row>,
}

impl Receipts {
    /// Opens a change's receipt. False where that was done before, or it is too old to be remembered.
    pub(super) fn open(&mut self, stamp: Stamp) -> bool {
        if self.rows.contains_key(&stamp) {
            return false;
        }
        if self.rows.len() >= KEPT {
            let Some((&oldest, _)) = self.rows.first_key_value().filter(|&(&oldest, _)| oldest < stamp) else {
                return false;
            };
            self.rows.remove(&oldest);
        }
        self.rows.insert(stamp, Row::default());
        true
    }

    pub(super) fn affected(&mut self, stamp: Stamp, connections: u64) {
        self.count(stamp, |row| row.affected += connections);
    }

    pub(super) fn notified(&mut self, stamps: &[Stamp]) {
        for &stamp in stamps {
            self.count(stamp, |row| row.notified += 1);
        }
    }

    pub(super) fn refreshed(&mut self, stamps: &[Stamp]) {
        for &stamp in stamps {
            self.count(stamp, |row| row.refreshed += 1);
        }
    }

    fn count(&mut self, stamp: Stamp, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.rows.get_mut(&stamp) {
            change(row);
            row.moved = true;
        }
    }

    /// One change's receipt: all zero where it touched no connection of this replica or is no longer remembered.
    pub(super) fn get(&self, stamp: Stamp) -> Receipt {
        receipt(stamp, self.rows.get(&stamp).copied().unwrap_or_default())
    }

    /// Those of one epoch that moved since the last call, the newest first, at most `max`; the rest comes next time.
    pub(super) fn take_moved(&mut self, generation: u16, max: usize) -> Vec<Receipt> {
        let moved = self.rows.iter_mut().rev().take_while(|(stamp, _)| stamp.generation() >= generation);
        let moved = moved.filter(|(stamp, _)| stamp.generation() == generation);
        moved
            .filter_map(|(&stamp, row)| std::mem::take(&mut row.moved).then(|| receipt(stamp, *row)))
            .take(max)
            .collect()
    }
}

fn receipt(stamp: Stamp, row: Row) -> Receipt {
    let seq: Seq = stamp.seq();
    Receipt { seq, affected: row.affected, notified: row.notified, refreshed: row.refreshed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(seq: u64) -> Stamp {
        Stamp::new(1, Seq::new(seq).unwrap())
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut receipts = Receipts::default();
        for seq in 2..2 + KEPT as u64 {
            assert!(receipts.open(stamp(seq)));
        }
        assert!(!receipts.open(stamp(5)), "open already");
        assert!(!receipts.open(stamp(1)), "older than all that are kept");
        assert!(receipts.open(stamp(5000)));
        receipts.affected(stamp(2), 1);
        assert_eq!(receipts.get(stamp(2)).affected, 0, "forgotten");
    }

    #[test]
    fn what_moved_is_handed_out_once() {
        let mut receipts = Receipts::default();
        for seq in [1, 2, 3] {
            receipts.open(stamp(seq));
        }
        receipts.affected(stamp(1), 2);
        receipts.affected(stamp(3), 1);
        receipts.notified(&[stamp(1), stamp(1)]);
        let first = receipts.take_moved(1, 1);
        assert_eq!(first, [Receipt { seq: stamp(3).seq(), affected: 1, notified: 0, refreshed: 0 }]);
        let second = receipts.take_moved(1, 9);
        assert_eq!(second, [Receipt { seq: stamp(1).seq(), affected: 2, notified: 2, refreshed: 0 }]);
        assert!(receipts.take_moved(1, 9).is_empty());
        receipts.refreshed(&[stamp(1)]);
        assert!(receipts.take_moved(2, 9).is_empty(), "those of a former epoch are nobody's business");
    }
}
