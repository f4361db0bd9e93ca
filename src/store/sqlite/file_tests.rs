//! What only a database in a file can show: processes side by side, a replaced file, a full disk, a lock.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::SqliteStore;
use super::place::Place;
use crate::domain::operation::Operation;
use crate::domain::rules::Refusal;
use crate::domain::{Actor, Change, Clock, Epoch, Origin, Seq, Unit};
use crate::store::contract::bench::Counting;
use crate::store::contract::words::{add_user, forbid, give, permit, tenant, user};
use crate::store::sql::writer::{Fault, Transaction, Work};
use crate::store::{CommitListener, Store, StoreError, StoreOptions, WriteError};

/// A moment.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> crate::domain::Timestamp {
        "2026-11-24T20:00:00Z".parse().unwrap()
    }

    fn boottime(&self) -> crate::domain::Boottime {
        crate::domain::Boottime(Duration::ZERO)
    }
}

struct Deaf;

impl CommitListener for Deaf {
    fn committed(&self, _: Epoch, _: &[Change]) {}
}

#[derive(Default)]
struct Told(Mutex<Vec<Change>>);

impl CommitListener for Told {
    fn committed(&self, _: Epoch, changes: &[Change]) {
        self.0.lock().unwrap().extend_from_slice(changes);
    }
}

pub(super) fn options() -> StoreOptions {
    StoreOptions {
        id_rest: Duration::from_hours(1),
        refresh_grace: Duration::from_secs(10),
        deadline: Duration::from_secs(10),
        listener: Arc::new(Deaf),
    }
}

async fn try_open(path: &Path, options: StoreOptions) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path.to_str().unwrap(), options, Arc::new(Standing), &Counting::default()).await
}

pub(super) async fn started(path: &Path, options: StoreOptions) -> SqliteStore {
    try_open(path, options).await.unwrap()
}

fn unit(operations: Vec<Operation>) -> Unit {
    Unit { actor: Actor::System("system"), operations }
}

async fn head(store: &SqliteStore) -> Seq {
    store.tail(Seq::MAX).await.unwrap().head
}

#[tokio::test]
async fn two_may_create_one_database_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    let stores = join_all((0..4).map(|_| started(&path, options()))).await;
    let epochs = join_all(stores.iter().map(async |store| store.tail(Seq::ZERO).await.unwrap().epoch)).await;
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    for store in stores {
        store.close().await;
    }
    let again = started(&path, options()).await;
    assert_eq!(again.tail(Seq::ZERO).await.unwrap().epoch, epochs[0], "the epoch stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_write_to_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    let (a, b) = (started(&path, options()).await, started(&path, options()).await);
    a.write(unit(vec![add_user("ben"), add_user("cleo")])).await.unwrap();
    let many = async |store: &SqliteStore, id: &str| {
        for n in 0..40 {
            let (one, two) = (format!("{id}{n}"), format!("{id}x{n}"));
            let both = [store.write(unit(vec![permit(id, &one)])), store.write(unit(vec![permit(id, &two)]))];
            for written in join_all(both).await {
                assert_eq!(written.unwrap().changes.len(), 1);
            }
        }
    };
    tokio::join!(many(&a, "ben"), many(&b, "cleo"));
    let page = a.tail(Seq::ZERO).await.unwrap();
    assert_eq!(page.changes.len(), 2 + 160);
    assert_eq!(page.head.get(), 162);
    assert_eq!(page.changes, b.tail(Seq::ZERO).await.unwrap().changes);
}

#[tokio::test]
async fn the_file_at_the_path_must_be_the_one_that_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    let store = started(&path, options()).await;
    store.write(unit(vec![add_user("ben")])).await.unwrap();
    let before = store.tail(Seq::ZERO).await.unwrap();

    for suffix in ["", "-wal", "-shm"] {
        let name = |stem: &str| directory.path().join(format!("{stem}{suffix}"));
        std::fs::rename(name("permcast.db"), name("old.db")).unwrap();
    }
    assert!(matches!(store.tail(Seq::ZERO).await, Err(StoreError::Replaced(_))));
    assert!(matches!(store.user(&tenant("default"), &user("ben")).await, Err(StoreError::Replaced(_))));
    let refused = store.write(unit(vec![add_user("cleo")])).await;
    assert!(matches!(refused, Err(WriteError::Store(StoreError::Replaced(_)))), "{refused:?}");
    assert!(store.reopen().await.is_err(), "it makes no new database");
    assert!(!path.exists());

    let other = started(&path, options()).await;
    other.close().await;
    assert!(matches!(store.tail(Seq::ZERO).await, Err(StoreError::Replaced(_))));
    store.reopen().await.unwrap();
    let after = store.tail(Seq::ZERO).await.unwrap();
    assert_eq!((after.head, after.changes.len()), (Seq::ZERO, 0));
    assert!(store.user(&tenant("default"), &user("ben")).await.unwrap().is_none());
    store.write(unit(vec![add_user("cleo")])).await.unwrap();
    assert_eq!(head(&store).await.get(), 1);
    assert_eq!(before.changes.len(), 1);
}

#[tokio::test]
async fn a_full_disk_fails_what_it_must_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    started(&path, options()).await.close().await;
    let pages = std::fs::metadata(&path).unwrap().len() / 4096 + 20;
    let mut place = Place::new(path.to_str().unwrap(), Duration::from_secs(10)).unwrap();
    place.pages_max = Some(u32::try_from(pages).unwrap());
    let told = Arc::new(Told::default());
    let listening = StoreOptions { listener: Arc::<Told>::clone(&told), ..options() };
    let store = SqliteStore::at(place, listening, Arc::new(Standing), &Counting::default()).await.unwrap();

    let mut acknowledged = Vec::new();
    let mut n = 0;
    let failed = loop {
        // Several share a commit, as the writer comes to them.
        let ids: Vec<String> =
            (0..4).map(|k| format!("a-user-with-quite-a-long-id-so-that-pages-fill-{n}-{k}")).collect();
        let results = join_all(ids.iter().map(|id| store.write(unit(vec![add_user(id)])))).await;
        let mut failed = Vec::new();
        for (id, result) in ids.into_iter().zip(results) {
            match result {
                Ok(_) => acknowledged.push(id),
                Err(error) => failed.push(error),
            }
        }
        if !failed.is_empty() {
            break failed;
        }
        n += 1;
        assert!(n < 10_000, "it never filled up");
    };
    let unavailable = |error: &WriteError| matches!(error, WriteError::Store(StoreError::Unavailable { .. }));
    assert!(failed.iter().all(unavailable), "{failed:?}");
    let page = store.tail(Seq::ZERO).await.unwrap();
    assert_eq!(page.changes.len(), acknowledged.len());
    assert_eq!(*told.0.lock().unwrap(), page.changes);
    for id in &acknowledged {
        assert!(store.user(&tenant("default"), &user(id)).await.unwrap().is_some(), "{id} was acknowledged");
    }
    store.close().await;

    // With room again all goes on.
    let store = started(&path, options()).await;
    store.write(unit(vec![add_user("later")])).await.unwrap();
    assert_eq!(head(&store).await.get(), u64::try_from(acknowledged.len()).unwrap() + 1);
}

#[tokio::test]
async fn a_locked_database_is_unavailable_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    let short = StoreOptions { deadline: Duration::from_millis(100), ..options() };
    let store = started(&path, short).await;
    let mut shell = holding_the_lock(&path).await;
    let refused = store.write(unit(vec![add_user("ben")])).await;
    assert!(matches!(refused, Err(WriteError::Store(StoreError::Unavailable { .. }))), "{refused:?}");
    assert_eq!(head(&store).await, Seq::ZERO, "it can be read meanwhile");
    shell.kill().await.unwrap();
    store.write(unit(vec![add_user("ben")])).await.unwrap();
}

#[tokio::test]
async fn nobody_waits_for_the_lock_longer_than_he_may() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    let deadline = Duration::from_millis(400);
    let store = started(&path, StoreOptions { deadline, ..options() }).await;
    let _shell = holding_the_lock(&path).await;
    let begun = std::time::Instant::now();
    // Each comes while the writer waits on the former's behalf.
    let write = async |turn: u32| {
        let came = deadline * turn / 4;
        tokio::time::sleep_until((begun + came).into()).await;
        let refused = store.write(unit(vec![add_user(&format!("ben{turn}"))])).await;
        assert!(matches!(refused, Err(WriteError::Store(StoreError::Unavailable { .. }))), "{refused:?}");
        let waited = begun.elapsed().saturating_sub(came);
        assert!(waited < deadline * 3 / 2, "{waited:?}");
    };
    join_all((0..4).map(write)).await;
}

/// Answers how its transaction is committed: 2 waits for the disk, 1 does not.
struct Asking<const LASTS: bool>;

impl<const LASTS: bool> Work for Asking<LASTS> {
    type Answer = i64;
    const LASTS: bool = LASTS;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<i64, Fault> {
        let row = transaction.one("SELECT synchronous FROM pragma_synchronous", vec![])?;
        Ok(crate::store::sql::statement::get(&row, "synchronous")?)
    }
}

#[tokio::test]
async fn the_disk_is_waited_for_wherever_something_must_last() {
    let directory = tempfile::tempdir().unwrap();
    let store = started(&directory.path().join("permcast.db"), options()).await;
    let queue = store.queue();
    assert_eq!(queue.write(Asking::<true>).await.unwrap(), 2);
    assert_eq!(queue.write(Asking::<false>).await.unwrap(), 1);
    let (lasting, fleeting) = tokio::join!(queue.write(Asking::<true>), queue.write(Asking::<false>));
    assert_eq!((lasting.unwrap(), fleeting.unwrap()), (2, 2), "one commit for both");
    assert_eq!(queue.write(Asking::<false>).await.unwrap(), 1);
    assert_eq!(queue.write(Asking::<true>).await.unwrap(), 2);
}

/// What no work should do.
struct Panicking;

impl Work for Panicking {
    type Answer = ();

    fn run(&mut self, _: &mut Transaction<'_>) -> Result<(), Fault> {
        panic!("on purpose")
    }
}

/// Takes the database away over its own commit.
struct TakenAway {
    from: std::path::PathBuf,
    to: std::path::PathBuf,
}

impl Work for TakenAway {
    type Answer = ();

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
        transaction.execute("INSERT INTO settings (name, value) VALUES ('gone', 'yes')", vec![])?;
        std::fs::rename(&self.from, &self.to).unwrap();
        Ok(())
    }
}

#[tokio::test]
async fn a_commit_that_its_file_was_taken_away_over_is_neither_done_nor_undone() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("here"), directory.path().join("there"));
    std::fs::create_dir(&from).unwrap();
    let store = started(&from.join("permcast.db"), options()).await;
    let lost = store.queue().write(TakenAway { from: from.clone(), to: to.clone() }).await;
    assert!(matches!(lost, Err(Fault::Store(StoreError::Undecided(_)))), "{lost:?}");
    let refused = store.write(unit(vec![add_user("ben")])).await;
    assert!(
        matches!(refused, Err(WriteError::Store(StoreError::Replaced(_)))),
        "before the commit it is known: {refused:?}"
    );
    std::fs::rename(&to, &from).unwrap();
    assert_eq!(store.ensure_setting("gone", "no").await.unwrap(), "yes", "it is back, and so is what was done");
}

#[tokio::test]
async fn a_writer_that_dies_is_known_to_be_dead() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    let store = started(&path, options()).await;
    store.write(unit(vec![add_user("ben")])).await.unwrap();
    assert!(futures_util::poll!(Box::pin(store.ended())).is_pending());
    let (died, beside) = tokio::join!(store.queue().write(Panicking), store.write(unit(vec![add_user("cleo")])));
    assert!(matches!(died, Err(Fault::Store(StoreError::Unavailable { .. }))), "{died:?}");
    assert!(matches!(beside, Err(WriteError::Store(StoreError::Unavailable { .. }))), "{beside:?}");
    store.ended().await;
    store.close().await;
    let again = started(&path, options()).await;
    assert_eq!(head(&again).await.get(), 1, "what shared the batch with it was not done");
}

/// The shell in a transaction that it does not end.
async fn holding_the_lock(path: &Path) -> tokio::process::Child {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let mut shell = tokio::process::Command::new("sqlite3")
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("these tests need the sqlite3 program");
    shell.stdin.as_mut().unwrap().write_all(b"BEGIN IMMEDIATE; SELECT 'it is mine';\n").await.unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut line).await.unwrap();
    assert_eq!(line.trim(), "it is mine");
    shell
}

#[tokio::test]
async fn a_cancelled_caller_never_breaks_the_writer() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(started(&directory.path().join("permcast.db"), options()).await);
    store.write(unit(vec![add_user("ben")])).await.unwrap();
    let before = head(&store).await;
    // Each caller is dropped at another of its waits.
    for polls in 0..200 {
        let operation = if polls % 2 == 0 { permit("ben", "a") } else { forbid("ben", "a") };
        let mut write = Box::pin(store.write(unit(vec![operation, give("ben", "nothing")])).fuse());
        let mut good = Box::pin(store.write(unit(vec![permit("ben", &format!("p{polls}"))])).fuse());
        for _ in 0..polls % 17 {
            let _ = futures_util::poll!(&mut write);
            let _ = futures_util::poll!(&mut good);
            tokio::task::yield_now().await;
        }
    }
    store.write(unit(vec![permit("ben", "last")])).await.unwrap();
    let page = store.tail(before).await.unwrap();
    let held = store.load_user(&tenant("default"), &user("ben")).await.unwrap().value.unwrap().grants;
    assert_eq!(held.len(), page.changes.len(), "each was done as a whole or not at all");
}

#[tokio::test]
async fn what_was_queued_before_the_close_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    let store = started(&path, options()).await;
    // More than share one commit. Each is polled once, whatever that costs this task, and so queued.
    let mut writes: Vec<_> = (0..300)
        .map(|n| unit(vec![add_user(&format!("u{n}"))]))
        .map(|unit| Box::pin(tokio::task::coop::unconstrained(store.write(unit))))
        .collect();
    for write in &mut writes {
        assert!(futures_util::poll!(write).is_pending());
    }
    store.close().await;
    let mut done = 0;
    for write in writes {
        match write.await {
            Ok(_) => done += 1,
            Err(WriteError::Store(StoreError::Unavailable { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(done, 300);
    let late = store.write(unit(vec![add_user("late")])).await;
    assert!(matches!(late, Err(WriteError::Store(StoreError::Unavailable { .. }))), "{late:?}");
    let again = started(&path, options()).await;
    assert_eq!(head(&again).await.get(), 300);
}

#[tokio::test]
async fn a_newer_schema_and_a_foreign_file_are_unusable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    started(&path, options()).await.close().await;
    alter(&path, "PRAGMA user_version = 999").await;
    let refused = try_open(&path, options()).await.err();
    assert!(matches!(&refused, Some(StoreError::Unusable(why)) if why.contains("newer")), "{refused:?}");

    let foreign = directory.path().join("foreign.db");
    alter(&foreign, "CREATE TABLE recipes (name)").await;
    let refused = try_open(&foreign, options()).await.err();
    assert!(matches!(&refused, Some(StoreError::Unusable(why)) if why.contains("another program")), "{refused:?}");

    let text = directory.path().join("text.db");
    std::fs::write(&text, "this is no database, but it is long enough to be taken for one".repeat(100)).unwrap();
    let refused = try_open(&text, options()).await.err();
    assert!(matches!(&refused, Some(StoreError::Unusable(_))), "{refused:?}");

    let nowhere = try_open(&directory.path().join("no/such/directory/x.db"), options()).await.err();
    assert!(matches!(&nowhere, Some(StoreError::Unusable(_))), "{nowhere:?}");
}

async fn alter(path: &Path, script: &str) {
    let output = tokio::process::Command::new("sqlite3").arg(path).arg(script).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_failing_unit_in_a_shared_commit_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = started(&directory.path().join("permcast.db"), options()).await;
    store.write(unit(vec![add_user("ben")])).await.unwrap();
    let writes = (0..20).map(|n| {
        let first = permit("ben", &format!("p{n}"));
        let operations = if n % 2 == 0 { vec![first] } else { vec![first, permit("ben", "shared"), give("ben", "x")] };
        store.write(unit(operations))
    });
    for (n, result) in join_all(writes).await.into_iter().enumerate() {
        match result {
            Ok(written) => assert_eq!((n % 2, written.changes.len()), (0, 1)),
            Err(WriteError::Refused { index, refusal }) => {
                assert_eq!((n % 2, index, refusal), (1, 2, Refusal::UnknownRole("x".to_owned())));
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(head(&store).await.get(), 11);
}

#[tokio::test]
async fn a_new_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    let store = started(&path, options()).await;
    store.write(unit(vec![add_user("ben")])).await.unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn no_decision_looks_through_a_table() {
    use crate::store::sql::facts::{GrantFacts, RoleFacts, TenantFacts, UserFacts, Wanted};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    started(&path, options()).await.close().await;
    let (now, home, ben) = (Standing.now(), tenant("default"), user("ben"));
    let ada = Actor::User {
        tenant: home.clone(),
        user: ben.clone(),
        session: "A".repeat(22).parse().unwrap(),
        origin: Origin::default(),
    };
    let editor = "editor".parse().unwrap();
    let questions = [
        TenantFacts::question(&ada, now, Some(&home)).0,
        UserFacts::question(&ada, now, &home, &ben, &Wanted::default()).0,
        GrantFacts::question(&ada, now, &home, &ben, Some(&editor), None).0,
        RoleFacts::question(&ada, now, &home, &editor, &[]).0,
        crate::store::sql::log::TAIL,
        crate::store::sql::unit::HAS_OPERATOR,
    ];
    let tables = "tenants users roles user_roles user_permissions role_permissions role_includes sessions identities \
                  changes departed u r g p i s t c";
    for question in questions {
        let plan = format!("EXPLAIN QUERY PLAN {question}");
        let output = tokio::process::Command::new("sqlite3").arg(&path).arg(plan).output().await.unwrap();
        let plan = String::from_utf8(output.stdout).unwrap();
        assert!(plan.contains("SEARCH"), "{plan}");
        for line in plan.lines().filter_map(|line| line.split_once("SCAN ")).map(|(_, scanned)| scanned) {
            let scanned = line.split(' ').next().unwrap();
            let by_the_few = line.contains("_operator");
            assert!(by_the_few || !tables.split_whitespace().any(|t| t == scanned), "{question}\n{plan}");
        }
    }
}
