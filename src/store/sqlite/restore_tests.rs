use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::domain::{Actor, Kind, Seq, Unit};
use crate::runtime::{SystemClock, SystemRandom};
use crate::store::contract::words::{add_role, add_user, give, permit, tenant, user};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::file_tests::{options, started};
use crate::store::{NewSession, Store, WriteError};

const DEADLINE: Duration = Duration::from_secs(10);

struct Bench {
    directory: TempDir,
    store: SqliteStore,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = started(&directory.path().join("live.db"), options()).await;
        let bench = Self { directory, store };
        bench.write(vec![add_role("viewer", &["invoices:read"], &[]), add_user("ben"), give("ben", "viewer")]).await;
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn write(&self, operations: Vec<crate::domain::Operation>) {
        self.store.write(Unit { actor: Actor::System("system"), operations }).await.unwrap();
    }

    async fn backup(&self) -> PathBuf {
        let path = self.path("it's 100% a backup?.db");
        self.store.backup(&path).await.unwrap();
        path
    }

    async fn restore(&self, backup: &Path, keep_sessions: bool) -> Result<Restored, StoreError> {
        let live = self.path("live.db");
        SqliteStore::restore(live.to_str().unwrap(), backup, keep_sessions, DEADLINE, &SystemClock, &SystemRandom).await
    }

    async fn version(&self) -> Version {
        let page = self.store.tail(Seq::MAX).await.unwrap();
        Version { epoch: page.epoch, seq: page.head }
    }

    async fn open_session(&self, number: u8) -> crate::domain::SessionId {
        let id = crate::domain::SessionId::from_random([number; 16]);
        let session = NewSession {
            id: id.clone(),
            tenant: tenant("default"),
            user: user("ben"),
            refresh: None,
            password: None,
            address: String::new(),
            user_agent: String::new(),
            request: None,
            by: None,
            idle: None,
            ends_at: "2030-01-01T00:00:00Z".parse().unwrap(),
        };
        assert!(self.store.open_session(session).await.unwrap().is_some());
        id
    }

    async fn lives(&self, session: &crate::domain::SessionId) -> bool {
        self.store.load_session(session).await.unwrap().value.is_some()
    }

    async fn grants(&self) -> usize {
        self.store.load_user(&tenant("default"), &user("ben")).await.unwrap().value.unwrap().grants.len()
    }
}

async fn sql(path: &Path, script: &str) -> String {
    let output = tokio::process::Command::new("sqlite3").arg(path).arg(script).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn what_was_is_again_in_a_new_epoch() {
    let bench = Bench::new().await;
    let seal = bench.store.ensure_secret(SEAL, vec![1]).await.unwrap();
    let kept = bench.store.ensure_secret("refresh", vec![2]).await.unwrap();
    let session = bench.open_session(1).await;
    let backup = bench.backup().await;
    let copied = std::fs::read(&backup).unwrap();
    let then = bench.version().await;
    bench.write(vec![permit("ben", "a"), add_user("cleo")]).await;
    let before = bench.version().await;

    let restored = bench.restore(&backup, false).await.unwrap();
    assert_eq!((restored.before, restored.users), (Some(before), 1));
    assert_ne!(restored.after.epoch, before.epoch);
    assert_eq!(restored.after.seq, then.seq.next(), "one row says that it begins anew");
    // Through connections that were open all the time.
    assert_eq!(bench.version().await, restored.after);
    assert_eq!(bench.grants().await, 0);
    assert!(bench.store.user(&tenant("default"), &user("cleo")).await.unwrap().is_none());
    assert!(!bench.lives(&session).await);
    let row = &bench.store.changes(None, then.seq, 10).await.unwrap()[0];
    assert_eq!((row.actor.as_str(), row.change.target.kind()), ("cli", Kind::Everyone));
    assert!(row.change.effect.ends_sessions());
    assert_ne!(bench.store.ensure_secret(SEAL, vec![3]).await.unwrap(), seal);
    assert_eq!(bench.store.ensure_secret("refresh", vec![4]).await.unwrap(), kept);
    // And it goes on, its triggers in force.
    bench.write(vec![permit("ben", "b")]).await;
    assert_eq!(bench.version().await.seq, restored.after.seq.next());
    assert_eq!(std::fs::read(&backup).unwrap(), copied, "a backup is not altered by being put back");
    let again = bench.restore(&backup, false).await.unwrap();
    assert_ne!(again.after.epoch, restored.after.epoch);
}

const SEAL: &str = crate::store::SEAL_SECRET;

#[tokio::test]
async fn sessions_that_the_backup_knows_are_kept_on_purpose_alone() {
    let bench = Bench::new().await;
    let session = bench.open_session(1).await;
    let backup = bench.backup().await;
    let later = bench.open_session(2).await;
    let restored = bench.restore(&backup, true).await.unwrap();
    assert!(bench.lives(&session).await);
    assert!(!bench.lives(&later).await, "the backup does not know it");
    let head = bench.store.tail(Seq::new(restored.after.seq.get() - 1).unwrap()).await.unwrap();
    assert_eq!(head.changes[0].target.kind(), Kind::Everyone, "every token is stale all the same");
}

#[tokio::test]
async fn the_schema_is_ours_whatever_the_backup_says() {
    let bench = Bench::new().await;
    let backup = bench.backup().await;
    sql(&backup, "DROP TRIGGER user_permissions_inserted; CREATE TABLE notes (text)").await;
    let restored = bench.restore(&backup, false).await.unwrap();
    bench.write(vec![permit("ben", "a")]).await;
    assert_eq!(bench.version().await.seq, restored.after.seq.next(), "the grant is in the log");
    let schema = "SELECT type, name, sql FROM sqlite_schema ORDER BY rowid";
    let fresh = started(&bench.path("fresh.db"), options()).await;
    fresh.close().await;
    let live = sql(&bench.path("live.db"), schema).await;
    assert_eq!(sorted(&live), sorted(&sql(&bench.path("fresh.db"), schema).await));
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn where_there_is_no_database_yet_there_is_one_afterwards() {
    let bench = Bench::new().await;
    let backup = bench.backup().await;
    let path = bench.path("elsewhere.db");
    let address = path.to_str().unwrap();
    let restored = SqliteStore::restore(address, &backup, false, DEADLINE, &SystemClock, &SystemRandom).await.unwrap();
    assert_eq!((restored.before, restored.users), (None, 1));
    let store = started(&path, options()).await;
    assert_eq!(store.tail(Seq::MAX).await.unwrap().epoch, restored.after.epoch);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "private keys are in it");
}

#[tokio::test]
async fn what_is_no_whole_backup_of_ours_changes_nothing() {
    let bench = Bench::new().await;
    let before = bench.version().await;
    let backup = bench.backup().await;
    let copy = |name: &str| {
        let path = bench.path(name);
        std::fs::copy(&backup, &path).unwrap();
        path
    };
    let newer = copy("newer.db");
    sql(&newer, "PRAGMA user_version = 999").await;
    let foreign = bench.path("foreign.db");
    sql(&foreign, "CREATE TABLE recipes (name)").await;
    let text = bench.path("text.db");
    std::fs::write(&text, "this is no database, but it is long enough to be taken for one".repeat(100)).unwrap();
    let empty = bench.path("empty.db");
    std::fs::write(&empty, "").unwrap();
    let torn = copy("torn.db");
    let mut bytes = std::fs::read(&torn).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x5a);
    std::fs::write(&torn, bytes).unwrap();
    for (path, why) in [
        (&newer, "newer"),
        (&foreign, "no backup of permcast"),
        (&text, "no SQLite database"),
        (&empty, "no backup of permcast"),
        (&torn, "damaged"),
        (&bench.path("nowhere.db"), "no file"),
        (&bench.path("live.db"), "the database itself"),
    ] {
        let refused = bench.restore(path, false).await;
        assert!(matches!(&refused, Err(StoreError::Unusable(said)) if said.contains(why)), "{why}: {refused:?}");
    }
    assert_eq!(bench.version().await, before);
    bench.write(vec![permit("ben", "a")]).await;
}

#[tokio::test]
async fn another_programs_database_is_not_written_over() {
    let bench = Bench::new().await;
    let backup = bench.backup().await;
    let path = bench.path("recipes.db");
    sql(&path, "CREATE TABLE recipes (name); INSERT INTO recipes VALUES ('bread')").await;
    let refused =
        SqliteStore::restore(path.to_str().unwrap(), &backup, false, DEADLINE, &SystemClock, &SystemRandom).await;
    assert!(matches!(refused, Err(StoreError::Unusable(_))), "{refused:?}");
    assert_eq!(sql(&path, "SELECT name FROM recipes").await.trim(), "bread");
}

#[tokio::test]
async fn a_backup_of_an_older_schema_is_migrated() {
    const LATER: &[&str] = &[
        include_str!("../../../migrations/sqlite/0001_schema.sql"),
        include_str!("../../../migrations/sqlite/0002_audit.sql"),
        "ALTER TABLE settings ADD COLUMN note TEXT NOT NULL DEFAULT ''",
    ];
    let bench = Bench::new().await;
    let backup = bench.backup().await;
    let mut place = Place::new(bench.path("later.db").to_str().unwrap(), DEADLINE).unwrap();
    place.steps = LATER;
    place.restore(&backup, false, "2026-11-24T20:00:00Z".parse().unwrap(), &SystemRandom).await.unwrap();
    let path = bench.path("later.db");
    assert_eq!(sql(&path, "SELECT count(note) FROM settings; PRAGMA user_version").await.trim(), "0\n3");
    assert_eq!(sql(&path, "SELECT id FROM users").await.trim(), "ben");
    let refused = bench.restore(&path, false).await;
    assert!(matches!(&refused, Err(StoreError::Unusable(said)) if said.contains("newer")), "{refused:?}");
}

#[tokio::test]
async fn who_writes_all_the_time_does_not_keep_it_out() {
    let bench = Bench::new().await;
    let backup = bench.backup().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let writing = async {
        let mut n = 0;
        let mut epochs = std::collections::BTreeSet::new();
        while !stop.is_cancelled() {
            n += 1;
            let unit = Unit { actor: Actor::System("system"), operations: vec![permit("ben", &format!("p{n}"))] };
            match bench.store.write(unit).await {
                Ok(written) => drop(epochs.insert(written.version.epoch.to_string())),
                Err(WriteError::Store(StoreError::Unavailable { .. })) => {}
                Err(error) => panic!("{error}"),
            }
        }
        epochs.len()
    };
    let restoring = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let restored = bench.restore(&backup, false).await.unwrap();
        // At least one more write finds the new epoch.
        while bench.version().await.seq <= restored.after.seq {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    assert_eq!(tokio::join!(writing, restoring).0, 2);
    let page = bench.store.tail(Seq::ZERO).await.unwrap();
    assert!(page.changes.iter().zip(1..).all(|(change, n)| change.seq.get() == n), "no number is missing");
}
