//! What happens, drawn from a seed; one step after the other, so that a failing schedule can be shrunk.

use permcast::domain::Effect;

use crate::database::{ROLES, Row, TENANTS, Touched, USERS};
use crate::mutants::Mutant;
use crate::replica::REMEMBER;
use crate::rng::Rng;
use crate::world::{Checked, World, replicas};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Commit,
    Login,
    Mint,
    Connect,
    Announce,
    Wait,
    Sleep,
    Crash,
    Start,
    Pause,
    Resume,
    CutOff,
    Fail,
    PutCopy,
    TakeCopy,
    BackUp,
    Restore,
    TakeBack,
    LoseRow,
    Retain,
    Mute,
    Mislead,
}

/// The epoch of a log that is none of ours.
const NOWHERE: usize = 255;

/// One step, with the seed of its own choices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step(Kind, u64);

/// How often what happens, of a hundred or so.
const WEIGHTS: &[(Kind, u64)] = &[
    (Kind::Commit, 24),
    (Kind::Login, 8),
    (Kind::Mint, 26),
    (Kind::Connect, 12),
    (Kind::Announce, 4),
    (Kind::Wait, 10),
    (Kind::Sleep, 1),
    (Kind::Crash, 2),
    (Kind::Start, 3),
    (Kind::Pause, 2),
    (Kind::Resume, 3),
    (Kind::CutOff, 2),
    (Kind::Fail, 2),
    (Kind::PutCopy, 2),
    (Kind::TakeCopy, 1),
    (Kind::BackUp, 2),
    (Kind::Restore, 1),
    (Kind::TakeBack, 1),
    (Kind::LoseRow, 2),
    (Kind::Retain, 1),
];

/// What happens on the broker beside. A third of the seeds is drawn without it, as all were once, so that what these found
/// is played as it was.
const BESIDE: &[Kind] = &[Kind::Mute, Kind::Mislead, Kind::Mislead];

pub(crate) const STEPS: usize = 60;

/// The steps of a seed, and how many floors a replica may hold in it.
pub(crate) fn draw(seed: u64) -> (Vec<Step>, usize) {
    let mut rng = Rng(seed);
    let floors_max = if rng.once_in(3) { 8 } else { 1_000 };
    let total = WEIGHTS.iter().map(|&(_, weight)| weight).sum();
    let mut steps = vec![Step(Kind::Login, rng.next()), Step(Kind::Login, rng.next())];
    while steps.len() < STEPS {
        let mut at = rng.below(total);
        let kind = WEIGHTS.iter().find(|&&(_, weight)| {
            let here = at < weight;
            at = at.saturating_sub(weight);
            here
        });
        steps.push(Step(kind.unwrap().0, rng.next()));
    }
    if seed % 3 != 2 {
        let mut rng = Rng(!seed);
        for _ in 0..=rng.below(5) {
            let at = 2 + rng.index(steps.len() - 2);
            steps.insert(at, Step(BESIDE[rng.index(BESIDE.len())], rng.next()));
        }
    }
    (steps, floors_max)
}

/// Plays it; says at which step which oracle spoke.
pub(crate) fn play(steps: &[Step], floors_max: usize, mutant: Option<Mutant>) -> Checked {
    let mut world = World::new(floors_max, mutant);
    world.advance(1_100);
    for (number, step) in steps.iter().enumerate() {
        take(&mut world, *step)
            .and_then(|()| world.check())
            .map_err(|why| format!("after step {number}, {step:?}: {why}"))?;
    }
    world.converge().map_err(|why| format!("in the end: {why}"))
}

/// The steps without those that the failure does not need.
pub(crate) fn shrink(mut steps: Vec<Step>, floors_max: usize, mutant: Option<Mutant>) -> Vec<Step> {
    loop {
        let before = steps.len();
        for at in (0..steps.len()).rev() {
            let mut fewer = steps.clone();
            fewer.remove(at);
            if play(&fewer, floors_max, mutant).is_err() {
                steps = fewer;
            }
        }
        if steps.len() == before {
            return steps;
        }
    }
}

fn take(world: &mut World, Step(kind, seed): Step) -> Checked {
    let mut rng = Rng(seed);
    world.rng = Rng(rng.next());
    let number = rng.index(replicas());
    let now = world.now;
    match kind {
        Kind::Commit => commit(world, &mut rng),
        Kind::Login => {
            let session = world.sessions;
            world.sessions += 1;
            world.database.open_session(rng.index(TENANTS), rng.index(USERS), session);
            world.mint(number, session, rng.below(4) != 0);
        }
        Kind::Mint if world.sessions > 0 => {
            let session = rng.index(world.sessions);
            world.mint(number, session, rng.below(4) != 0);
        }
        Kind::Connect if !world.tokens.is_empty() => world.connect(number, rng.index(world.tokens.len())),
        Kind::Announce => {
            let speaker = world.replicas[number].as_ref().filter(|replica| now >= replica.mute_until);
            let version = speaker.map(|replica| replica.applied.version());
            let to = rng.index(replicas());
            if let (Some(version), Some(to)) = (version, world.replicas[to].as_mut()) {
                to.saw(version, now);
            }
        }
        Kind::Wait => {
            world.advance(now + rng.below(2_500));
            return Ok(());
        }
        Kind::Sleep => {
            world.advance(now + rng.below(30_000));
            return Ok(());
        }
        Kind::Crash => world.crash(number),
        Kind::Start => world.start(number),
        Kind::Retain => {
            let rows = world.database.rows.iter_mut();
            rows.filter(|row| row.at + 2 * REMEMBER < now).for_each(|row| row.kept = false);
        }
        Kind::BackUp => world.backup = Some(world.database.clone()),
        Kind::Restore => world.restore(),
        Kind::TakeBack => {
            let writes = rng.below(5);
            world.take_back(|world| (0..writes).for_each(|_| commit(world, &mut rng)))?;
        }
        Kind::Mislead => mislead(world, &mut rng, number),
        Kind::LoseRow => {
            let length = world.database.rows.len();
            if let Some(back) = (length > 0).then(|| rng.index(length.min(3))) {
                world.database.rows[length - 1 - back].kept = false;
            }
        }
        _ => {
            let head = world.database.head();
            let life = crate::database::epoch_of(world.database.epoch);
            let Some(replica) = world.replicas[number].as_mut() else { return Ok(()) };
            match kind {
                Kind::Pause if !replica.paused => (replica.paused, replica.slept_since) = (true, now),
                // Nothing of what is due has happened yet when it first answers.
                Kind::Resume if replica.paused => {
                    replica.paused = false;
                    replica.slept += now - replica.slept_since;
                    return Ok(());
                }
                Kind::Mute => replica.mute_until = now + rng.below(10_000),
                Kind::CutOff => replica.cut_off_until = now + rng.below(10_000),
                Kind::Fail => replica.failing_until = now + rng.below(6_000),
                // Told from the true one only by ending before what was known when a read began; the file's identity, which
                // tells the rest, is not modelled.
                Kind::PutCopy if replica.applied.epoch() == life && head > 0 && replica.reading.is_none() => {
                    let known = replica.known.seq().get();
                    let applied = replica.applied.stamp().seq().get();
                    if known > 0 {
                        replica.copy = Some(if applied < known { applied } else { known - 1 });
                    }
                }
                Kind::TakeCopy => replica.copy = None,
                _ => {}
            }
        }
    }
    world.advance(world.now.max(now + rng.below(30)));
    Ok(())
}

fn commit(world: &mut World, rng: &mut Rng) {
    let (tenant, user, role) = (rng.index(TENANTS), rng.index(USERS), rng.index(ROLES));
    let ends = if rng.once_in(5) { Effect::Suspended } else { Effect::Changed };
    let (touched, effect) = match rng.below(16) {
        0..6 => (Touched::User(tenant, user), ends),
        6..11 => (Touched::Role(tenant, role), Effect::Changed),
        11 => (Touched::Tenant(tenant), ends),
        12 => (Touched::Everyone, ends),
        _ => match world.database.sessions.get(rng.index(world.database.sessions.len())) {
            Some(session) => (Touched::Session(session.tenant, session.user, session.number), Effect::SignedOut),
            None => (Touched::User(tenant, user), ends),
        },
    };
    let bits = u8::try_from(rng.below(8)).unwrap();
    let row = world.database.commit(world.now, touched, effect, bits);
    let by = rng.index(replicas() + 1);
    let can_write = |by: &usize| {
        *by < replicas() && world.replicas[*by].as_ref().is_some_and(|replica| replica.can_read(world.now))
    };
    let by = Some(by).filter(can_write);
    world.committed(&row, by);
}

/// Another deployment is heard: one with a log of its own, or a copy of this database that has gone its own way since, and so
/// has this epoch, this seal, and something else at a position of this log.
fn mislead(world: &mut World, rng: &mut Rng, number: usize) {
    let head = world.database.head();
    let Some(replica) = world.replicas[number].as_mut().filter(|replica| !replica.paused && head > 0) else { return };
    let position = head - rng.below(head.min(4));
    let (tenant, user) = (rng.index(TENANTS), rng.index(USERS));
    let effect = if rng.once_in(5) { Effect::Suspended } else { Effect::Changed };
    let row = Row { seq: position, at: world.now, touched: Touched::User(tenant, user), effect, kept: true };
    if rng.once_in(3) {
        replica.hint(NOWHERE, false, vec![row.change()], world.now);
    } else {
        world.mislead(number, row.change());
    }
}
