//! All replicas over one database on one virtual clock, and the oracles that watch them.

use std::sync::OnceLock;

use permcast::domain::{Basis, Change, Effect, Freshness, Stamp, Version};
use permcast::hub::{Footing, Holder};

use crate::database::{Database, Dependency, NAMES, Part, Row, Touched, epoch_of, role_names, seq, session_id};
use crate::mutants::Mutant;
use crate::replica::{Client, Entry, Key, MAX_STALENESS, POLL, Replica, TOKEN_LIFE};
use crate::rng::Rng;

/// Three, or as many as are asked for: each seed says something else then.
pub(crate) fn replicas() -> usize {
    static REPLICAS: OnceLock<usize> = OnceLock::new();
    *REPLICAS.get_or_init(|| crate::number("PERMCAST_SIM_REPLICAS").map_or(3, |count| usize::try_from(count).unwrap()))
}

/// A message under way.
struct Message {
    due: u64,
    to: usize,
    life: usize,
    epoch: usize,
    own: bool,
    changes: Vec<Change>,
}

/// One history: the full log, also what a restore cut off.
#[derive(Default)]
struct Life {
    epoch: usize,
    rows: Vec<Row>,
    /// Where it was left, and when: it was taken back to this position, and goes on in the next history.
    left: Option<(u64, u64)>,
}

/// A token is being made: session, then user, then his roles, each read or found at its own moment.
struct Minting {
    replica: usize,
    session: usize,
    fat: bool,
    alive_at: (Version, Part),
    applied: Stamp,
    parts: Vec<(Stamp, Part)>,
    user: Option<u8>,
    roles: u8,
    todo: Vec<Key>,
    loading: Option<(Key, Version, Part, u8)>,
    due: u64,
    rng: Rng,
}

pub(crate) struct Token {
    pub(crate) tenant: usize,
    pub(crate) user: usize,
    session: usize,
    version: Version,
    fat: Option<u8>,
    parts: Vec<Part>,
    expires_at: u64,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) database: Database,
    /// All histories of the log.
    lives: Vec<Life>,
    epochs: usize,
    pub(crate) backup: Option<Database>,
    pub(crate) replicas: Vec<Option<Replica>>,
    messages: Vec<Message>,
    mintings: Vec<Minting>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) sessions: usize,
    pub(crate) rng: Rng,
    pub(crate) calm: bool,
    pub(crate) floors_max: usize,
}

pub(crate) type Checked = Result<(), String>;

impl World {
    pub(crate) fn new(floors_max: usize, mutant: Option<Mutant>) -> Self {
        let mut world = Self {
            now: 1_000,
            mutant,
            database: Database::default(),
            lives: vec![Life::default()],
            epochs: 1,
            backup: None,
            replicas: (0..replicas()).map(|_| None).collect(),
            messages: Vec::new(),
            mintings: Vec::new(),
            tokens: Vec::new(),
            sessions: 0,
            rng: Rng(1),
            calm: false,
            floors_max,
        };
        (0..replicas()).for_each(|replica| world.start(replica));
        world
    }

    pub(crate) fn start(&mut self, number: usize) {
        if self.replicas[number].is_none() {
            let mut replica =
                Replica::new(self.database.life, self.database.epoch, self.now, self.floors_max, self.mutant);
            replica.begin(&self.database, self.now);
            self.replicas[number] = Some(replica);
        }
    }

    pub(crate) fn crash(&mut self, number: usize) {
        self.replicas[number] = None;
        self.mintings.retain(|minting| minting.replica != number);
        self.messages.retain(|message| message.to != number);
    }

    fn running(&self, number: usize) -> bool {
        self.replicas[number].as_ref().is_some_and(|replica| !replica.paused)
    }

    /// A row was written; by a replica, which tells the others, or past all of them.
    pub(crate) fn committed(&mut self, row: &Row, by: Option<usize>) {
        self.lives[self.database.life].rows.push(row.clone());
        let Some(by) = by.filter(|&by| self.running(by)) else { return };
        for to in 0..replicas() {
            let mute = self.replicas[by].as_ref().is_some_and(|replica| self.now < replica.mute_until);
            if to != by && (self.rng.once_in(6) || mute) {
                continue;
            }
            for _ in 0..=u8::from(to != by && self.rng.once_in(8)) {
                let late = to != by && self.rng.once_in(6);
                let delay = if late { self.rng.below(40_000) } else { self.rng.below(6) };
                // Own commits come in their order.
                let delay = if to == by { 3 } else { delay };
                let message = Message {
                    due: self.now + delay,
                    to,
                    life: self.database.life,
                    epoch: self.database.epoch,
                    own: to == by,
                    changes: vec![row.change()],
                };
                self.messages.push(message);
            }
        }
    }

    pub(crate) fn restore(&mut self) {
        let Some(backup) = self.backup.clone() else { return };
        self.database = backup;
        self.begin_epoch();
        // A copy that lay there was an older one of another life.
        self.replicas.iter_mut().flatten().for_each(|replica| replica.copy = None);
    }

    /// A replica hears of this log something that is not true. Of what it makes before it has read the log it could not say
    /// how old that is, so nothing is made.
    pub(crate) fn mislead(&mut self, number: usize, change: Change) {
        let Some(replica) = self.replicas[number].as_mut() else { return };
        replica.mislead(self.database.epoch, change, self.now);
        self.mintings.retain(|minting| minting.replica != number);
    }

    fn begin_epoch(&mut self) {
        self.database.epoch = self.epochs;
        self.epochs += 1;
        self.begin_life();
    }

    fn begin_life(&mut self) {
        self.database.life = self.lives.len();
        self.lives.push(Life { epoch: self.database.epoch, rows: self.database.rows.clone(), left: None });
    }

    /// An older copy of this epoch is put in the database's place by hand, under a replica that has seen more and reads.
    /// Whoever has seen nothing of it cannot know. What is `written` to it before anybody looks may make up for what is lost.
    pub(crate) fn take_back(&mut self, written: impl FnOnce(&mut Self)) -> Checked {
        let Some(backup) = self.backup.clone().filter(|backup| backup.life == self.database.life) else {
            return Ok(());
        };
        let head = backup.head();
        let sees = |replica: &&Replica| {
            let seen = replica.seen().is_some_and(|seen| seen.seq.get() > head);
            seen && replica.life == self.database.life && !replica.paused && replica.can_read(self.now)
        };
        // Nor is anything lost that came to some replica by a hint alone, so far: the next read would have shown it.
        let by_hint_alone = |replica: &Replica| {
            replica.life == self.database.life
                && replica.applied.stamp().seq()
                    > replica.seen().map_or(permcast::domain::Seq::default(), |seen| seen.seq)
        };
        let running = || self.replicas.iter().flatten();
        if !running().any(|replica| sees(&replica)) || running().any(by_hint_alone) {
            return Ok(());
        }
        let epoch = self.database.epoch;
        self.lives[self.database.life].left = Some((head, self.now));
        self.database = backup;
        self.begin_life();
        written(self);
        // A read that had begun before may take its time, and the one after it.
        self.advance(self.now + 2 * 5_600 + 2 * POLL);
        if self.database.epoch == epoch { Err("the log was taken back, and nobody noticed".to_owned()) } else { Ok(()) }
    }

    /// As the store's `begin_anew`.
    fn begin_anew(&mut self, epoch: permcast::domain::Epoch, seen: &Change) {
        if epoch_of(self.database.epoch) == epoch && self.database.lacks(seen) {
            self.database.commit(self.now, Touched::Everyone, Effect::KeysRevoked, 0);
            self.begin_epoch();
        }
    }

    pub(crate) fn mint(&mut self, replica: usize, session: usize, fat: bool) {
        let Some(at) = self.replicas[replica].as_ref().filter(|replica| !replica.paused) else { return };
        if !at.can_read(self.now) || at.lag(self.now) > MAX_STALENESS || !at.misled.is_empty() {
            return;
        }
        let Some(live) = self.database.session(session) else { return };
        let (life, read_at) = (self.database.life, self.database.head());
        let on = Dependency::Session(live.tenant, live.user, live.number);
        let mut rng = Rng(self.rng.next());
        self.mintings.push(Minting {
            replica,
            session,
            fat,
            alive_at: (self.version(), Part { life, read_at, on }),
            applied: at.applied.stamp(),
            parts: Vec::new(),
            user: None,
            roles: 0,
            todo: vec![(false, live.tenant, live.user)],
            loading: None,
            due: self.now + rng.below(8),
            rng,
        });
    }

    fn version(&self) -> Version {
        Version { epoch: epoch_of(self.database.epoch), seq: seq(self.database.head()) }
    }

    /// Goes one step on with a minting; `None` when it is over.
    fn go_on(&mut self, mut minting: Minting) -> Option<Minting> {
        let version = self.version();
        let replica = self.replicas[minting.replica].as_mut()?;
        if let Some((key, version, part, roles)) = minting.loading.take() {
            let stamp = replica.applied.stamp_of(version).unwrap_or(Stamp::NEVER);
            let stamp = if self.mutant == Some(Mutant::StampAfterLoad) { replica.applied.stamp() } else { stamp };
            let basis = replica.entry_basis(stamp, key, roles);
            minting.took(key, replica.stamp_of(&basis, minting.applied), part, roles);
            replica.entries.insert(key, Entry { basis, roles, part });
        } else if let Some(key) = minting.todo.pop() {
            let entry = replica.entries.get(&key).filter(|entry| replica.floors.is_fresh(&entry.basis));
            if let Some(entry) = entry {
                minting.took(key, replica.stamp_of(&entry.basis, minting.applied), entry.part, entry.roles);
            } else {
                if !replica.can_read(self.now) {
                    return None;
                }
                let (is_role, tenant, number) = key;
                let (on, roles) = if is_role {
                    let closure = self.database.closure(tenant, number);
                    (Dependency::Roles(tenant, closure), closure)
                } else {
                    (Dependency::User(tenant, number), self.database.roles_of(tenant, number))
                };
                let part = Part { life: self.database.life, read_at: self.database.head(), on };
                minting.loading = Some((key, version, part, roles));
            }
        } else {
            self.minted(minting);
            return None;
        }
        let slow = if minting.rng.once_in(10) { 800 } else { 6 };
        minting.due = self.now + minting.rng.below(slow);
        Some(minting)
    }

    fn minted(&mut self, minting: Minting) {
        let Some(replica) = &self.replicas[minting.replica] else { return };
        if replica.lag(self.now) > MAX_STALENESS {
            return;
        }
        let (alive_version, alive) = minting.alive_at;
        let Some(alive_at) = replica.applied.stamp_of(alive_version) else { return };
        let as_of = minting.parts.iter().map(|&(stamp, _)| stamp);
        // Parts of two epochs make no token.
        let mixed = as_of.clone().any(|stamp| stamp.generation() != alive_at.generation());
        if mixed && self.mutant != Some(Mutant::MixEpochs) {
            return;
        }
        let stamp = match self.mutant {
            Some(Mutant::HighestStamp) => as_of.max().unwrap_or_default().max(alive_at),
            Some(Mutant::IgnoreSessionRead) => as_of.min().unwrap_or_default(),
            _ => as_of.min().unwrap_or_default().min(alive_at),
        };
        let Dependency::Session(tenant, user, _) = alive.on else { return };
        let fat = minting.fat.then_some(minting.roles);
        let parts = if minting.fat { minting.parts } else { Vec::new() };
        self.tokens.push(Token {
            tenant,
            user,
            session: minting.session,
            version: Version { seq: stamp.seq(), ..alive_version },
            fat,
            parts: parts.into_iter().map(|(_, part)| part).chain([alive]).collect(),
            expires_at: self.now + TOKEN_LIFE,
        });
    }

    /// A client comes with a token.
    pub(crate) fn connect(&mut self, number: usize, token: usize) {
        if !self.running(number) || self.tokens[token].fat.is_none() || !self.alive(token) {
            return;
        }
        let wait = self.rng.below(8);
        let early = self.mutant == Some(Mutant::CompareBeforeRegister);
        let Some(replica) = self.replicas[number].as_mut() else { return };
        let basis = verified(replica, &self.tokens[token], token);
        let told = early && !replica.floors.is_fresh(&basis);
        let mut client = Client { connection: None, token, compare_at: Some(self.now + wait), told };
        if !early {
            register(replica, &self.tokens[token], &basis, &mut client);
        }
        replica.clients.push(client);
    }

    pub(crate) fn alive(&self, token: usize) -> bool {
        self.now < self.tokens[token].expires_at
    }

    /// Lets time pass, and all that is due happen in its order.
    pub(crate) fn advance(&mut self, to: u64) {
        loop {
            let messages = self.messages.iter().filter(|message| self.running(message.to)).map(|message| message.due);
            let mintings =
                self.mintings.iter().filter(|minting| self.running(minting.replica)).map(|minting| minting.due);
            let replicas = self.replicas.iter().flatten().filter(|replica| !replica.paused).map(next_of);
            let Some(next) = messages.chain(mintings).chain(replicas).min().filter(|&next| next <= to) else { break };
            self.now = self.now.max(next);
            self.happen();
        }
        self.now = self.now.max(to);
    }

    fn happen(&mut self) {
        let now = self.now;
        let due = |message: &Message, world: &Self| message.due <= now && world.running(message.to);
        if let Some(at) = self.messages.iter().position(|message| due(message, self)) {
            let Message { to, life, epoch, own, changes, .. } = self.messages.remove(at);
            let replica = self.replicas[to].as_mut().unwrap();
            if now >= replica.cut_off_until {
                replica.mixed |= life != replica.life;
                replica.hint(epoch, own, changes, now);
            }
            return;
        }
        if let Some(at) = self.mintings.iter().position(|minting| minting.due <= now && self.running(minting.replica)) {
            let minting = self.mintings.swap_remove(at);
            if let Some(minting) = self.go_on(minting) {
                self.mintings.push(minting);
            }
            return;
        }
        for number in 0..replicas() {
            let Some(replica) = self.replicas[number].as_mut().filter(|replica| !replica.paused) else { continue };
            if next_of(replica) > now {
                continue;
            }
            if let Some(at) = replica.clients.iter().position(|client| client.compare_at.is_some_and(|at| at <= now)) {
                let mut client = replica.clients.swap_remove(at);
                let basis = verified(replica, &self.tokens[client.token], client.token);
                client.compare_at = None;
                if client.connection.is_none() {
                    register(replica, &self.tokens[client.token], &basis, &mut client);
                } else {
                    client.told |= !replica.floors.is_fresh(&basis);
                }
                replica.clients.push(client);
            } else if replica.state.is_none() {
                replica.begin(&self.database, now);
            } else if replica.reading.as_ref().is_some_and(|reading| reading.taken.is_some()) {
                let epoch = replica.applied.epoch();
                if let Some(seen) = replica.finish(&self.database, now) {
                    self.begin_anew(epoch, &seen);
                }
            } else if replica.reading.is_some() {
                let rows = if self.rng.once_in(5) && !self.calm { 2 } else { 1_000 };
                replica.take(&self.database, now, rows);
            } else {
                let slow = !self.calm && self.rng.once_in(12);
                let (take, due) = if slow { (2_000, 3_500) } else { (3, 3) };
                replica.read(now, self.rng.below(take), self.rng.below(due));
            }
            return;
        }
    }

    /// Looks at every token on every replica.
    pub(crate) fn check(&mut self) -> Checked {
        let lives = &self.lives;
        let now = self.now;
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            let Some(replica) = replica.as_mut().filter(|replica| !replica.paused) else { continue };
            let stamp = replica.applied.stamp();
            let seen = (stamp, replica.floors.horizon());
            if seen.0 < replica.seen.0 || seen.1 < replica.seen.1 {
                return Err(format!("r{number} went back from {:?} to {seen:?}", replica.seen));
            }
            replica.seen = seen;
            if replica.floors.len() > replica.floors_max {
                return Err(format!("r{number} holds {} floors", replica.floors.len()));
            }
            let lag = replica.lag(now);
            for (index, token) in self.tokens.iter().enumerate().filter(|(_, token)| now < token.expires_at) {
                let basis = verified(replica, token, index);
                if !replica.floors.is_fresh(&basis) {
                    replica.verified.insert(index, (basis, true));
                    continue;
                }
                if replica.verified.get(&index).is_some_and(|(_, stale)| *stale) {
                    return Err(format!("token {index} was stale on r{number} and is fresh again"));
                }
                replica.saw(token.version, now);
                judge(lives, &token.parts, replica, lag, now)
                    .map_err(|why| format!("token {index} passes r{number}: {why}"))?;
            }
            for (key, entry) in &replica.entries {
                if replica.floors.is_fresh(&entry.basis) {
                    judge(lives, &[entry.part], replica, lag, now)
                        .map_err(|why| format!("entry {key:?} passes r{number}: {why}"))?;
                }
            }
        }
        Ok(())
    }

    /// When all faults are over everybody comes to the head and hears of it.
    pub(crate) fn converge(&mut self) -> Checked {
        self.calm = true;
        for number in 0..replicas() {
            self.start(number);
            let replica = self.replicas[number].as_mut().unwrap();
            replica.paused = false;
            replica.copy = None;
            (replica.failing_until, replica.cut_off_until, replica.mute_until) = (0, 0, 0);
        }
        self.check()?;
        // A read begun before may take its time; then two more, the second for a new epoch.
        self.advance(self.now + 5_600 + 3 * POLL);
        self.check()?;
        let head = self.version();
        for (number, replica) in self.replicas.iter_mut().flatten().enumerate() {
            if replica.applied.version() != head || replica.lag(self.now) > 2 * POLL {
                return Err(format!("r{number} stays at {:?}, the head is {head:?}", replica.applied.version()));
            }
            let mut clients = std::mem::take(&mut replica.clients);
            for client in &mut clients {
                let token = &self.tokens[client.token];
                let basis = verified(replica, token, client.token);
                let stale = replica.floors.freshness(&basis) != Freshness::Fresh;
                let nobody = permcast::hub::Sleeper::Task(std::task::Waker::noop());
                if let Some(connection) = &client.connection
                    && let std::task::Poll::Ready(mail) = connection.poll_mail(nobody)
                {
                    client.told |= mail.over.is_some() || mail.notice.is_some();
                }
                if stale && !client.told && self.now < token.expires_at {
                    return Err(format!("the client of token {} on r{number} is stale and untold", client.token));
                }
            }
        }
        Ok(())
    }
}

impl Minting {
    fn took(&mut self, key: Key, stamp: Stamp, part: Part, roles: u8) {
        self.parts.push((stamp, part));
        if key.0 {
            self.roles |= roles;
        } else {
            self.user = Some(roles);
            self.todo = (0..crate::database::ROLES)
                .filter(|role| roles & (1 << role) != 0)
                .map(|role| (true, key.1, role))
                .collect();
        }
    }
}

fn next_of(replica: &Replica) -> u64 {
    let reading = replica.reading.as_ref();
    let read = reading.map_or(replica.next_read, |reading| match reading.taken {
        None => reading.take_at,
        Some(_) => reading.due,
    });
    replica.clients.iter().filter_map(|client| client.compare_at).min().map_or(read, |compare| compare.min(read))
}

/// What a token rests on here, as kept since it was first verified.
fn verified(replica: &mut Replica, token: &Token, index: usize) -> Basis {
    if let Some((basis, _)) = replica.verified.get(&index) {
        return basis.clone();
    }
    let stamp = replica.applied.stamp_of(token.version).unwrap_or(Stamp::NEVER);
    let (tenant, user) = (&NAMES.tenants[token.tenant], &NAMES.users[token.user]);
    let session = session_id(token.session);
    let basis = match token.fat {
        Some(roles) => {
            let roles = if replica.mutant == Some(Mutant::ForgetRoles) { 0 } else { roles };
            replica.floors.token_basis(stamp, tenant, user, &session, role_names(roles))
        }
        None => replica.floors.thin_basis(stamp, tenant, user, &session),
    };
    replica.verified.insert(index, (basis.clone(), false));
    basis
}

fn register(replica: &Replica, token: &Token, basis: &Basis, client: &mut Client) {
    let holder = Holder { tenant: NAMES.tenants[token.tenant].clone(), user: NAMES.users[token.user].clone() };
    let roles = role_names(token.fat.unwrap_or_default());
    let footing = Footing::fat(&replica.floors, &session_id(token.session), basis.stamp(), roles, false);
    let seat = replica.hub.admit(std::net::Ipv4Addr::LOCALHOST.into()).unwrap();
    client.connection = Some(replica.hub.register(seat, &holder, footing).unwrap());
}

/// Whether what is about to pass may pass.
fn judge(lives: &[Life], parts: &[Part], replica: &Replica, lag: u64, now: u64) -> Checked {
    let applied = replica.applied.stamp().seq().get();
    for part in parts {
        let life = &lives[part.life];
        if epoch_of(life.epoch) != replica.applied.epoch() {
            return Err(format!("{part:?} was read in another epoch"));
        }
        let too_late = |at: u64| lag <= MAX_STALENESS && at + MAX_STALENESS < now;
        for row in life.rows.iter().filter(|row| row.seq > part.read_at && row.touches(part.on)) {
            // What this replica applied was of the history from which it reads.
            if row.seq <= applied && replica.life == part.life && !replica.mixed && !replica.misled.contains(&row.seq) {
                return Err(format!("{part:?} was touched by {row:?}, and {applied} is applied"));
            }
            if too_late(row.at) {
                return Err(format!("{part:?} was touched by {row:?}, at {now} with a lag of {lag}"));
            }
        }
        // Of a history that was left this is held against who has seen it; others cannot know.
        if let Some((head, at)) = life.left.filter(|_| replica.life == part.life) {
            let next = &lives[part.life + 1].rows;
            if part.read_at > head && too_late(at) {
                return Err(format!("{part:?} was taken back to {head}, at {now} with a lag of {lag}"));
            }
            if let Some(row) =
                next.iter().find(|row| row.seq > part.read_at && row.touches(part.on) && too_late(row.at))
            {
                return Err(format!("{part:?} was touched by {row:?} after it was taken back, at {now}"));
            }
        }
    }
    Ok(())
}
