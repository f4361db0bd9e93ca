//! Deliberate bugs in the pure rooms, each an expression with another in its place.

/// One bug: of the text `place`, which `file` holds once, what stands between `<<` and `>>` becomes `wrong`.
pub(crate) struct Bug {
    pub(crate) what: &'static str,
    pub(crate) file: &'static str,
    pub(crate) place: &'static str,
    pub(crate) wrong: &'static str,
}

const fn bug(what: &'static str, file: &'static str, place: &'static str, wrong: &'static str) -> Bug {
    Bug { what, file, place, wrong }
}

const FLOORS: &str = "domain/floors.rs";
const APPLIED: &str = "domain/applied.rs";
const CHANGE: &str = "domain/change.rs";
const FEED: &str = "feed/state.rs";
const TELL: &str = "hub/tell.rs";
const REGISTRY: &str = "hub/registry.rs";
const MAILBOX: &str = "hub/mailbox.rs";
const SOCKET: &str = "socket/state.rs";
const LIVE: &str = "socket/live.rs";

#[rustfmt::skip]
pub(crate) const BUGS: &[Bug] = &[
    bug("a table that grows forgets", FLOORS,
        "<<grown.raise(key, floor)>>;", "false"),
    bug("a tenant's change is not looked at", FLOORS,
        "<<needed.max(tenant.changed.get())>>", "needed"),
    bug("the end of all sessions of a user is not looked at", FLOORS,
        "<<items.get(session).max(items.get(sessions_of_user))>>", "items.get(session)"),
    bug("a tenant that is folded keeps no floor", FLOORS,
        "<<tenant.folded.raise(stamp)>>", "()"),
    bug("what lies below the horizon is fresh", FLOORS,
        "<<tenant.folded.get().max(self.horizon.get())>>", "tenant.folded.get()"),
    bug("what is folded away is more than what is old", FLOORS,
        "|&(_, floor)| <<floor > horizon>>", "floor > horizon && floor.seq().get() % 2 == 0"),
    bug("a snapshot one before the change is fresh", FLOORS,
        "if <<needed > basis.stamp>>", "needed.to_word() > basis.stamp.to_word() + 1"),
    bug("a change within a tenant does not move it", FLOORS,
        "counts.total += added;\n        <<tenant.moved.raise(stamp)>>", "()"),
    bug("a version of another epoch is a position of this one", APPLIED,
        "<<(epoch == version.epoch)>>.then", "true"),
    bug("the position goes back", APPLIED,
        "<<self.word.fetch_max(Stamp::new(self.generation(), seq).to_word(), Ordering::AcqRel)>>",
        "self.word.swap(Stamp::new(self.generation(), seq).to_word(), Ordering::AcqRel)"),
    bug("suspension ends no session", CHANGE,
        "<<self != Self::Changed>>", "self != Self::Changed && self != Self::Suspended"),
    bug("hints of another epoch are believed", FEED,
        "if <<epoch != self.epoch>>", "false"),
    bug("a log that ends before what is known is believed", FEED,
        "<<page.head < known.max(after)>>", "page.head < after"),
    bug("a hint moves the position over a gap", FEED,
        "while <<self.hinted.contains_key(&self.applied.next())>>", "self.hinted.keys().any(|seq| *seq > self.applied)"),
    bug("numbers that the log lacks are passed over", FEED,
        "if <<first >= next>> {\n            return 0;", "true"),
    bug("a page that was cut short confirms", FEED,
        "if <<page.complete>>", "true"),
    bug("a log that was taken back is believed", FEED,
        "let Some(lost) = <<asked.or_else(since)>>", "None::<Change>"),
    bug("what a hint said of a position outlives what the log says of it", FEED,
        "<<said.target == change.target && said.effect == change.effect>>", "true"),
    bug("a gap is no reason to read the log", FEED,
        "Plan { apply, applied: self.applied, fetch: <<self.lacks_some()>>", "false"),
    bug("a change is told to one shard", TELL,
        "for shard in <<reach.shards>> {", "&reach.shards[..reach.shards.len().min(1)]"),
    bug("an epoch that begins is told to nobody", TELL,
        "if <<entry.footing.token < stamp>>", "entry.footing.token < stamp && stamp.seq().get() > 0"),
    bug("what moves up in a list is not told its place", REGISTRY,
        "<<known.1 = place>>", "()"),
    bug("new roles are not joined", REGISTRY,
        "<<entry.places.extend(joined)>>", "drop(joined)"),
    bug("of two notices the lower version is told", MAILBOX,
        "if <<other.stamp > self.stamp>>", "other.stamp < self.stamp"),
    bug("who sleeps is not woken", MAILBOX,
        "<<asleep.wake()>>", "drop(asleep)"),
    bug("who was told once is never told again", MAILBOX,
        "if <<again || notice.stamp > self.told>>", "again || self.told == Stamp::NEVER"),
    bug("who was told and does not refresh may stay", LIVE,
        "<<self.due.filter(|_| self.locked.is_none())>>", "None"),
    bug("a session's end leaves the socket open", LIVE,
        "SessionRevoked { reason }));\n            return <<Err(CloseCode::SessionOver)>>", "Ok(())"),
    bug("a token of another user is taken", SOCKET,
        "if <<(&live.identity.tenant, &live.identity.user) != (&identity.tenant, &identity.user)>>", "false"),
];
