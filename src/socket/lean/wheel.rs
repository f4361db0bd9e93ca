//! A timer wheel: many alarms for the price of one timer. Pure: it is told what time it is.
//!
//! Time is counted in ticks. An alarm rings at its tick or, where that lies beyond a full turn, once a turn before it, so
//! that whoever is woken looks whether the time has come and sets the alarm again. It never rings late.

/// Ticks of one turn. At 50 ms a tick 51 s, which is more than almost all waits of a connection.
const SLOTS: usize = 1024;
/// No entry.
const NONE: u32 = u32::MAX;

/// Which alarm; as good as the slot of a table, and used again after it was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alarm(pub(super) u32);

/// The alarms, each with what is handed out when it rings.
#[derive(Debug)]
pub(super) struct Wheel<T> {
    /// The first alarm of each tick's list.
    heads: Box<[u32]>,
    alarms: Vec<Entry<T>>,
    /// The first free place among them.
    free: u32,
    /// The last tick that rang.
    now: u64,
    len: usize,
}

#[derive(Debug)]
struct Entry<T> {
    /// `None`: a free place.
    value: Option<T>,
    /// In which tick's list it is; [`NONE`]: in none.
    slot: u32,
    next: u32,
    previous: u32,
}

impl<T> Wheel<T> {
    /// No alarms.
    pub(super) fn new(now: u64) -> Self {
        Self { heads: vec![NONE; SLOTS].into(), alarms: Vec::new(), free: NONE, now, len: 0 }
    }

    /// How many alarms there are, set or not.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// An alarm that is not set.
    pub(super) fn insert(&mut self, value: T) -> Alarm {
        self.len += 1;
        let entry = Entry { value: Some(value), slot: NONE, next: NONE, previous: NONE };
        if self.free == NONE {
            self.alarms.push(entry);
            return Alarm(u32::try_from(self.alarms.len() - 1).expect("a process has fewer sockets than 2^32"));
        }
        let index = self.free;
        self.free = self.alarms[index as usize].next;
        self.alarms[index as usize] = entry;
        Alarm(index)
    }

    /// Takes an alarm away.
    pub(super) fn remove(&mut self, alarm: Alarm) -> Option<T> {
        self.unlink(alarm.0);
        let free = self.free;
        let entry = &mut self.alarms[alarm.0 as usize];
        let value = entry.value.take()?;
        entry.next = free;
        self.free = alarm.0;
        self.len -= 1;
        Some(value)
    }

    /// What is handed out; `None` where there is no such alarm any more.
    pub(super) fn get(&self, alarm: Alarm) -> Option<&T> {
        self.alarms.get(alarm.0 as usize)?.value.as_ref()
    }

    /// All that could be handed out.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.alarms.iter().filter_map(|entry| entry.value.as_ref())
    }

    /// Sets an alarm to a tick, whatever it was set to; `None` unsets it. One that is past rings at the next tick. Answers
    /// when it rings; 0: never.
    pub(super) fn set(&mut self, alarm: Alarm, at: Option<u64>) -> u64 {
        let at = at.map(|at| at.clamp(self.now + 1, self.now + SLOTS as u64));
        let slot = at.map_or(NONE, |at| u32::try_from(at % SLOTS as u64).expect("there are fewer slots than 2^32"));
        if self.alarms[alarm.0 as usize].slot != slot {
            self.unlink(alarm.0);
            if slot != NONE {
                self.link(alarm.0, slot);
            }
        }
        at.unwrap_or(0)
    }

    /// It is `now`: all alarms up to it ring, once, and are unset.
    pub(super) fn advance(&mut self, now: u64, mut ring: impl FnMut(&T)) {
        let passed = now.saturating_sub(self.now).min(SLOTS as u64);
        let first = now - passed.min(now);
        self.now = self.now.max(now);
        for tick in first + 1..=first + passed {
            let slot = usize::try_from(tick % SLOTS as u64).expect("there are fewer slots than 2^32");
            let mut index = std::mem::replace(&mut self.heads[slot], NONE);
            while index != NONE {
                let entry = &mut self.alarms[index as usize];
                index = entry.next;
                (entry.slot, entry.next, entry.previous) = (NONE, NONE, NONE);
                if let Some(value) = &entry.value {
                    ring(value);
                }
            }
        }
    }

    fn link(&mut self, index: u32, slot: u32) {
        let head = std::mem::replace(&mut self.heads[slot as usize], index);
        let entry = &mut self.alarms[index as usize];
        (entry.slot, entry.next, entry.previous) = (slot, head, NONE);
        if head != NONE {
            self.alarms[head as usize].previous = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let entry = &mut self.alarms[index as usize];
        let (slot, next, previous) = (entry.slot, entry.next, entry.previous);
        if slot == NONE {
            return;
        }
        (entry.slot, entry.next, entry.previous) = (NONE, NONE, NONE);
        if next != NONE {
            self.alarms[next as usize].previous = previous;
        }
        match previous {
            NONE => self.heads[slot as usize] = next,
            previous => self.alarms[previous as usize].next = next,
        }
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
mod tests;
