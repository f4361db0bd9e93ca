//! The stock `psql` with its default settings, on a database of ours: whatever it does to a permission is in the log, or is
//! refused; and it says the same as SQLite's.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::testing::{Database, binaries, database};
use crate::domain::{Actor, Change, Epoch, LogRow, Operation, Seq, Target, Unit};
use crate::runtime::{SystemClock, SystemRandom};
use crate::store::contract::words::{add_role, add_user, give, permit, tenant, user};
use crate::store::sqlite::SqliteStore;
use crate::store::{CommitListener, Store, StoreOptions};

struct Deaf;

impl CommitListener for Deaf {
    fn committed(&self, _: Epoch, _: &[Change]) {}
}

fn options() -> StoreOptions {
    StoreOptions {
        id_rest: Duration::from_hours(1),
        refresh_grace: Duration::from_secs(10),
        deadline: Duration::from_secs(20),
        listener: Arc::new(Deaf),
    }
}

/// `ben` is an editor, which includes viewer, and may read reports; `cleo` has nothing.
async fn peopled(store: &dyn Store) {
    let operations = vec![
        add_role("viewer", &["invoices:read"], &[]),
        add_role("editor", &["invoices:write"], &["viewer"]),
        add_user("ben"),
        add_user("cleo"),
        give("ben", "editor"),
        permit("ben", "reports:read"),
    ];
    store.write(Unit { actor: Actor::System("system"), operations }).await.unwrap();
}

struct Shell {
    store: PostgresStore,
    database: Database,
}

impl Shell {
    async fn new() -> Self {
        let database = database();
        let clock = Arc::new(SystemClock);
        let store = PostgresStore::open(database.url(), 2, options(), clock, &SystemRandom).await.unwrap();
        peopled(&store).await;
        Self { store, database }
    }

    async fn connection(&self) -> PgConnection {
        PgConnection::connect(self.database.url()).await.unwrap()
    }

    async fn does(&self, operations: Vec<Operation>) {
        self.store.write(Unit { actor: Actor::System("system"), operations }).await.unwrap();
    }

    async fn head(&self) -> Seq {
        self.store.tail(Seq::MAX).await.unwrap().head
    }

    /// What a script does to the log: the rows it wrote, or what the shell complained of.
    async fn run(&self, script: &str) -> Result<Vec<String>, String> {
        let before = self.head().await;
        let complaint = psql(self.database.url(), script).err();
        let rows = self.store.changes(None, before, 1000).await.unwrap();
        match complaint {
            Some(complaint) => {
                assert!(rows.is_empty(), "{script} failed, and wrote {rows:?}");
                Err(complaint)
            }
            None => Ok(rows.iter().inspect(|row| assert_eq!(row.actor, "sql")).map(shown).collect()),
        }
    }

    async fn writes(&self, script: &str, rows: &[&str]) {
        let written = self.run(script).await;
        assert_eq!(written.as_deref(), Ok(&rows.iter().map(|&r| r.to_owned()).collect::<Vec<_>>()[..]), "{script}");
    }

    /// It must fail with this message, and nothing may be otherwise.
    async fn refuses(&self, script: &str, message: &str) {
        let before = self.dump();
        let complaint = self.run(script).await.expect_err(script);
        assert!(complaint.contains(message), "{script}: {complaint}");
        assert_eq!(self.dump(), before, "{script}");
    }

    fn dump(&self) -> String {
        const TABLES: &str = "SELECT format('SELECT %L, t::text FROM %I t ORDER BY 2', relname, relname) \
             FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' ORDER BY relname \\gexec\n";
        self.prints(TABLES)
    }

    fn prints(&self, script: &str) -> String {
        psql(self.database.url(), script).unwrap().trim().to_owned()
    }

    async fn holds(&self, id: &str) -> Vec<String> {
        let facts = self.store.load_user(&tenant("default"), &user(id)).await.unwrap().value.unwrap();
        let mut held: Vec<String> = facts.grants.iter().map(ToString::to_string).collect();
        for no in facts.roles {
            held.extend(self.store.load_role(no).await.unwrap().value.unwrap().grants.iter().map(ToString::to_string));
        }
        held.sort();
        held
    }
}

fn shown(row: &LogRow) -> String {
    let target = &row.change.target;
    format!("{} {} {}", target.kind(), target.name(), row.change.effect.as_str())
}

/// Runs a script; answers what it printed, or what it complained of.
fn psql(url: &str, script: &str) -> Result<String, String> {
    use std::io::Write as _;
    let mut shell = Command::new(binaries().join("psql"))
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(script.as_bytes()).and_then(|()| input.write_all(b";\n")).unwrap();
    drop(input);
    let output = shell.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Another engine's shell, with the same script.
fn sqlite3(file: &std::path::Path, script: &str) -> String {
    let output = Command::new("sqlite3").arg("-bail").arg(file).arg(script).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const BEN: &str = "(SELECT no FROM users WHERE id = 'ben')";
const CLEO: &str = "(SELECT no FROM users WHERE id = 'cleo')";
const VIEWER: &str = "(SELECT no FROM roles WHERE name = 'viewer')";
const EDITOR: &str = "(SELECT no FROM roles WHERE name = 'editor')";

/// One of each kind of edit, in words of both engines.
fn edits() -> Vec<String> {
    let session = "INSERT INTO sessions (id, \"user\", begun, issued_at, seen, created_at, last_refresh_at, expires_at) \
         SELECT 'AAAAAAAAAAAAAAAAAAAAAA', no, (SELECT MAX(seq) FROM changes), 0, 0, 0, 0, 99999999999999 \
         FROM users WHERE id = 'ben'";
    vec![
        format!("INSERT INTO user_roles (\"user\", role) VALUES ({BEN}, {VIEWER})"),
        format!("UPDATE user_roles SET expires_at = 99999999999999 WHERE \"user\" = {BEN} AND role = {VIEWER}"),
        format!("UPDATE user_roles SET expires_at = expires_at WHERE \"user\" = {BEN}"),
        format!(
            "INSERT INTO user_roles VALUES ({BEN}, {VIEWER}, 5) \
             ON CONFLICT (\"user\", role) DO UPDATE SET expires_at = excluded.expires_at"
        ),
        format!("INSERT INTO user_roles VALUES ({BEN}, {VIEWER}, 6) ON CONFLICT DO NOTHING"),
        format!("DELETE FROM user_roles WHERE \"user\" = {BEN} AND role = {VIEWER}"),
        format!("INSERT INTO user_permissions (\"user\", permission) VALUES ({BEN}, 'a')"),
        "UPDATE user_permissions SET expires_at = 99999999999999 WHERE permission = 'a'".to_owned(),
        "DELETE FROM user_permissions WHERE permission = 'a'".to_owned(),
        format!("INSERT INTO role_permissions VALUES ({VIEWER}, 'a')"),
        "DELETE FROM role_permissions WHERE permission = 'a'".to_owned(),
        "INSERT INTO roles (tenant, name) VALUES (1, 'new')".to_owned(),
        format!("INSERT INTO role_includes SELECT no, {VIEWER} FROM roles WHERE name = 'new'"),
        "UPDATE roles SET description = 'x'".to_owned(),
        "DELETE FROM roles WHERE name = 'new'".to_owned(),
        format!("DELETE FROM role_includes WHERE role = {EDITOR}"),
        "UPDATE users SET status = 'suspended' WHERE id = 'ben'".to_owned(),
        "UPDATE users SET status = 'active' WHERE id = 'ben'".to_owned(),
        "UPDATE users SET kind = 'service' WHERE id = 'ben'".to_owned(),
        "UPDATE users SET sign_outs = sign_outs + 1 WHERE id = 'ben'".to_owned(),
        "UPDATE users SET password = 'x' WHERE id = 'ben'".to_owned(),
        "UPDATE users SET name = 'Ben', email = 'ben@x.org' WHERE id = 'ben'".to_owned(),
        "INSERT INTO users (tenant, id) VALUES (1, 'dora')".to_owned(),
        format!("INSERT INTO identities VALUES (1, 'i', 's', {BEN})"),
        format!("UPDATE identities SET \"user\" = {CLEO}"),
        "DELETE FROM identities".to_owned(),
        session.to_owned(),
        "UPDATE sessions SET seen = 1".to_owned(),
        "UPDATE sessions SET ended_at = 1".to_owned(),
        "DELETE FROM sessions".to_owned(),
        session.to_owned(),
        "DELETE FROM sessions".to_owned(),
        session.to_owned(),
        "DELETE FROM users WHERE id = 'ben'".to_owned(),
        "DELETE FROM users WHERE id = 'cleo'".to_owned(),
        "INSERT INTO tenants (name) VALUES ('acme')".to_owned(),
        "UPDATE tenants SET status = 'suspended' WHERE name = 'acme'".to_owned(),
        "UPDATE tenants SET status = 'active' WHERE name = 'acme'".to_owned(),
        "UPDATE tenants SET sign_outs = sign_outs + 1 WHERE name = 'acme'".to_owned(),
        "INSERT INTO lockdown (tenant, retry_after_s, since) VALUES ('acme', 5, 0)".to_owned(),
        "DELETE FROM tenants WHERE name = 'acme'".to_owned(),
        "UPDATE meta SET sign_outs = sign_outs + 1".to_owned(),
        "INSERT INTO lockdown (retry_after_s, since) VALUES (5, 0)".to_owned(),
        "UPDATE lockdown SET retry_after_s = 6".to_owned(),
        "DELETE FROM lockdown".to_owned(),
        "INSERT INTO keys VALUES ('k', 'EdDSA', CAST('' AS BLOB), CAST('' AS BLOB), 'next', 0, NULL)".to_owned(),
        "UPDATE keys SET state = 'retired'".to_owned(),
        "DELETE FROM keys".to_owned(),
        "DELETE FROM roles".to_owned(),
        "DELETE FROM users".to_owned(),
        "DELETE FROM tenants".to_owned(),
    ]
}

#[tokio::test]
async fn both_engines_log_the_same_of_the_same_edits() {
    let shell = Shell::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("permcast.db");
    let clock = Arc::new(SystemClock);
    let other = SqliteStore::open(file.to_str().unwrap(), options(), clock, &SystemRandom).await.unwrap();
    peopled(&other).await;
    for edit in edits() {
        let (before, there) = (shell.head().await, other.tail(Seq::MAX).await.unwrap().head);
        assert_eq!(before, there, "{edit}");
        psql(shell.database.url(), &edit.replace("BLOB", "bytea")).unwrap();
        sqlite3(&file, &edit);
        let sorted = |rows: Vec<LogRow>| {
            let mut rows: Vec<_> = rows
                .into_iter()
                .map(|row| (row.actor, format!("{:?} {:?}", row.change.target, row.change.effect), row.summary))
                .collect();
            rows.sort();
            rows
        };
        let here = sorted(shell.store.changes(None, before, 1000).await.unwrap());
        assert_eq!(here, sorted(other.changes(None, there, 1000).await.unwrap()), "{edit}");
    }
}

#[tokio::test]
async fn both_engines_have_the_same_tables_and_columns() {
    const HERE: &str = "SELECT table_name || '.' || column_name FROM information_schema.columns \
         WHERE table_schema = current_schema()";
    const THERE: &str = "SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c \
         WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite_%'";
    // How each gives numbers; and where PostgreSQL has its rows until their transaction commits.
    let own = |column: &str| {
        ["counter.", "unnumbered.", "audit_unnumbered.", "permcast_schema.", "batches."]
            .iter()
            .any(|own| column.starts_with(own))
            || column == "meta.last_no"
    };
    let columns = |text: &str| {
        let mut columns: Vec<String> = text.lines().filter(|line| !own(line)).map(str::to_owned).collect();
        columns.sort();
        columns
    };
    let shell = Shell::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("permcast.db");
    let clock = Arc::new(SystemClock);
    SqliteStore::open(file.to_str().unwrap(), options(), clock, &SystemRandom).await.unwrap();
    assert_eq!(columns(&shell.prints(HERE)), columns(&sqlite3(&file, THERE)));
}

#[tokio::test]
async fn every_way_to_write_is_a_change() {
    let shell = Shell::new().await;
    let merge = format!(
        "MERGE INTO user_roles g USING (SELECT {CLEO} AS u, {VIEWER} AS r) s ON g.\"user\" = s.u AND g.role = s.r \
         WHEN MATCHED THEN UPDATE SET expires_at = 99999999999999 WHEN NOT MATCHED THEN INSERT VALUES (s.u, s.r, NULL)"
    );
    for _ in 0..2 {
        shell.writes(&merge, &["user cleo changed"]).await;
    }
    assert_eq!(shell.holds("cleo").await, ["invoices:read"]);
    let cleo = shell.prints(&format!("SELECT {CLEO}"));
    shell
        .writes(
            &format!("COPY user_permissions FROM STDIN;\n{cleo}\ta:b\t\\N\n{cleo}\ta:c\t\\N\n\\.\n"),
            &["user cleo changed", "user cleo changed"],
        )
        .await;
    shell
        .writes(
            "WITH gone AS (DELETE FROM user_permissions WHERE permission = 'a:b' RETURNING 1) SELECT 1",
            &["user cleo changed"],
        )
        .await;
    shell
        .writes(
            "INSERT INTO users (tenant, id) VALUES (1, 'ben') ON CONFLICT (tenant, id) DO UPDATE SET password = 'x'",
            &["user ben signed_out"],
        )
        .await;
    // What turns triggers of others off, and a path that leads elsewhere.
    shell
        .writes(
            "SET session_replication_role = replica; DELETE FROM user_roles",
            &["user ben changed", "user cleo changed"],
        )
        .await;
    let elsewhere = "SELECT set_config('search_path', 'pg_temp', false); CREATE TEMP TABLE changes (x int); \
         CREATE TEMP TABLE unnumbered (x int); CREATE TEMP TABLE counter (x int); \
         DELETE FROM public.user_permissions WHERE permission = 'a:c'";
    shell.writes(elsewhere, &["user cleo changed"]).await;
    // Immediate instead of at the end of the transaction; and a part of it that is taken back.
    shell
        .writes(
            "BEGIN; SET CONSTRAINTS ALL IMMEDIATE; UPDATE users SET status = 'suspended' WHERE id = 'ben'; SAVEPOINT s; \
             UPDATE users SET status = 'suspended' WHERE id = 'cleo'; ROLLBACK TO s; COMMIT",
            &["user ben suspended"],
        )
        .await;
    shell.writes("BEGIN; DELETE FROM users; ROLLBACK", &[]).await;
}

#[tokio::test]
async fn a_table_that_is_emptied_touches_everyone() {
    let shell = Shell::new().await;
    for table in [
        "user_roles",
        "user_permissions",
        "role_permissions",
        "role_includes",
        "identities",
        "sessions",
        "users",
        "roles",
        "tenants",
    ] {
        shell.writes(&format!("TRUNCATE {table}"), &["everyone  changed"]).await;
        shell
            .writes(&format!("SET session_replication_role = replica; TRUNCATE {table}"), &["everyone  changed"])
            .await;
    }
    shell.writes("TRUNCATE keys", &["keys  changed"]).await;
    shell.writes("TRUNCATE lockdown", &["lockdown  changed"]).await;
    shell.refuses("TRUNCATE changes", "the log is never altered").await;
    shell.refuses("TRUNCATE counter", "one row").await;
}

#[tokio::test]
async fn a_key_never_changes_and_no_orphan_is_born() {
    let shell = Shell::new().await;
    for change in [
        "users SET id = 'eve' WHERE id = 'ben'",
        "users SET no = 99 WHERE id = 'ben'",
        "users SET tenant = 2 WHERE id = 'ben'",
        "roles SET name = 'x' WHERE name = 'viewer'",
        "roles SET no = 99 WHERE name = 'viewer'",
        "tenants SET name = 'x'",
        "tenants SET no = 99",
        "user_roles SET \"user\" = (SELECT no FROM users WHERE id = 'cleo')",
        "user_roles SET role = (SELECT no FROM roles WHERE name = 'viewer')",
        "user_permissions SET permission = 'permcast:operator'",
        "role_permissions SET permission = 'x'",
        "role_includes SET other = role",
    ] {
        shell.refuses(&format!("UPDATE {change}"), "a key never changes").await;
        let replica = format!("SET session_replication_role = replica; UPDATE {change}");
        shell.refuses(&replica, "a key never changes").await;
    }
    shell.refuses("INSERT INTO user_roles (\"user\", role) VALUES (99, 98)", "no such user and role").await;
    shell.refuses("INSERT INTO user_permissions (\"user\", permission) VALUES (99, 'x')", "no such user").await;
    shell.refuses("INSERT INTO role_permissions VALUES (99, 'x')", "no such role").await;
    shell.refuses(&format!("INSERT INTO role_includes VALUES ({VIEWER}, 99)"), "no such roles").await;
    shell.refuses("INSERT INTO users (tenant, id) VALUES (99, 'x')", "no such tenant").await;
    shell.refuses("INSERT INTO users (tenant, id, no) VALUES (1, 'x', 3)", "numbers are given").await;
    shell.refuses("INSERT INTO users (tenant, id) VALUES (1, 'a b')", "check constraint").await;
    psql(
        shell.database.url(),
        "INSERT INTO tenants (name) VALUES ('acme'); \
         INSERT INTO roles (tenant, name) SELECT no, 'x' FROM tenants WHERE name = 'acme'",
    )
    .unwrap();
    let foreign = "(SELECT no FROM roles WHERE name = 'x')";
    shell.refuses(&format!("INSERT INTO user_roles (\"user\", role) VALUES ({BEN}, {foreign})"), "in one tenant").await;
    shell.refuses(&format!("INSERT INTO role_includes VALUES ({VIEWER}, {foreign})"), "in one tenant").await;
}

#[tokio::test]
async fn what_has_many_children_ends_in_one_row() {
    let shell = Shell::new().await;
    let members = format!(
        "INSERT INTO users (tenant, id) SELECT 1, 'u' || i FROM generate_series(1, 1000) i; \
         INSERT INTO user_roles (\"user\", role) SELECT no, {VIEWER} FROM users WHERE id LIKE 'u%'"
    );
    psql(shell.database.url(), &members).unwrap();
    shell.writes("DELETE FROM roles WHERE name = 'viewer'", &["role viewer changed"]).await;
    assert_eq!(shell.holds("ben").await, ["invoices:write", "reports:read"]);
    shell.writes("DELETE FROM users WHERE id = 'ben'", &["user ben deleted"]).await;
    shell.writes("DELETE FROM tenants", &["tenant default deleted"]).await;
    for table in ["users", "roles", "user_roles", "user_permissions", "role_permissions", "role_includes"] {
        assert_eq!(shell.prints(&format!("SELECT count(*) FROM {table}")), "0", "{table}");
    }
}

#[tokio::test]
async fn the_log_is_never_altered() {
    let shell = Shell::new().await;
    let never = "the log is never altered";
    shell.refuses("DELETE FROM changes", never).await;
    shell.refuses("SET session_replication_role = replica; DELETE FROM changes", never).await;
    shell.refuses("UPDATE changes SET kind = 'x'", never).await;
    shell.refuses("UPDATE changes SET seq = seq + 100", never).await;
    shell.refuses("INSERT INTO changes (seq) VALUES (1000)", "counts up by one").await;
    shell.refuses("INSERT INTO changes (seq) VALUES (0)", "counts up by one").await;
    shell.refuses("UPDATE counter SET seq = seq + 5", "counts up by one").await;
    shell.refuses("DELETE FROM counter", "one row").await;
    shell.refuses("UPDATE users SET ended_before = 3", "count up sign_outs").await;
    shell.refuses("BEGIN; INSERT INTO retention (upto) VALUES (1000); DELETE FROM changes; COMMIT", never).await;
    // Retention: below a guard row that is set and taken away in the same transaction.
    let retain = "BEGIN; INSERT INTO retention (upto) VALUES (4); DELETE FROM changes WHERE seq < 4; \
         DELETE FROM retention; COMMIT";
    psql(shell.database.url(), retain).unwrap();
    assert_eq!(shell.store.tail(Seq::ZERO).await.unwrap().changes[0].seq.get(), 4);
    shell.refuses("DELETE FROM changes WHERE seq = 4", never).await;
}

#[tokio::test]
async fn nobody_hides_behind_a_row_that_another_wrote() {
    let shell = Shell::new().await;
    shell.does(vec![permit("cleo", "x")]).await;
    for savepoint in ["", "SAVEPOINT s; "] {
        let hidden = format!(
            "BEGIN; SELECT lock_log(); UPDATE acting SET mark = 0; {savepoint}UPDATE user_permissions \
             SET expires_at = coalesce(expires_at, 9) + 1 WHERE permission = 'x'; COMMIT"
        );
        shell.writes(&hidden, &["user cleo changed"]).await;
    }
    // Of one's own, the second says nothing new.
    let twice = "BEGIN; SELECT lock_log(); UPDATE acting SET mark = 0; SAVEPOINT s; \
         UPDATE user_permissions SET expires_at = 20 WHERE permission = 'x'; RELEASE s; \
         UPDATE user_permissions SET expires_at = 30 WHERE permission = 'x'; COMMIT";
    shell.writes(twice, &["user cleo changed"]).await;
}

#[tokio::test]
async fn what_cannot_be_read_touches_everyone_and_grants_nothing() {
    let shell = Shell::new().await;
    let before = shell.head().await;
    let strange = "INSERT INTO changes (seq, kind, target, effect) \
         SELECT max(seq) + 1, 'wormhole', 'x', 'changed' FROM changes";
    psql(shell.database.url(), strange).unwrap();
    let page = shell.store.tail(before).await.unwrap();
    assert_eq!((page.changes.len(), page.unreadable), (1, 1));
    assert_eq!(page.changes[0].target, Target::Everyone);
    psql(shell.database.url(), &format!("INSERT INTO user_permissions VALUES ({CLEO}, 'a::b', NULL)")).unwrap();
    assert_eq!(shell.holds("cleo").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_shell_that_idles_in_a_transaction_keeps_nobody_waiting() {
    let shell = Shell::new().await;
    let before = shell.head().await;
    let mut idle = shell.connection().await;
    let mut transaction = idle.begin().await.unwrap();
    sqlx::query("DELETE FROM user_permissions").execute(&mut *transaction).await.unwrap();
    shell.does(vec![permit("cleo", "x")]).await;
    assert_eq!(shell.head().await.get(), before.get() + 1);
    transaction.commit().await.unwrap();
    let rows = shell.store.changes(None, before, 10).await.unwrap();
    assert_eq!(rows.iter().map(shown).collect::<Vec<_>>(), ["user cleo changed", "user ben changed"]);
}
