//! The stock `sqlite3` program with its default settings, on a database of ours: whatever it does to a permission is in
//! the log, or is refused.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::SqliteStore;
use super::file_tests::{options, started};
use crate::domain::{Actor, Operation, Seq, Unit};
use crate::store::Store;
use crate::store::contract::words::{add_role, add_user, give, grant, permit, tenant, user};

struct Shell {
    directory: TempDir,
    store: SqliteStore,
}

impl Shell {
    /// `ben` is an editor, which includes viewer, and may read reports; `cleo` has nothing.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = started(&directory.path().join("permcast.db"), options()).await;
        let shell = Self { directory, store };
        shell
            .does(vec![
                add_role("viewer", &["invoices:read"], &[]),
                add_role("editor", &["invoices:write"], &["viewer"]),
                add_user("ben"),
                add_user("cleo"),
                give("ben", "editor"),
                permit("ben", "reports:read"),
            ])
            .await;
        shell
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("permcast.db")
    }

    async fn does(&self, operations: Vec<Operation>) {
        self.store.write(Unit { actor: Actor::System("system"), operations }).await.unwrap();
    }

    /// What a script does to the log: the rows it wrote, or what the shell complained of.
    async fn run(&self, script: &str) -> Result<Vec<String>, String> {
        let before = self.store.tail(Seq::ZERO).await.unwrap().head;
        let complaint = run(&self.file(), script).await;
        let rows = self.store.changes(None, before, 1000).await.unwrap();
        match complaint {
            Some(complaint) => {
                assert!(rows.is_empty(), "{script} failed, and wrote {rows:?}");
                Err(complaint)
            }
            None => Ok(rows
                .into_iter()
                .map(|row| {
                    assert_eq!(row.actor, "sql");
                    let target = &row.change.target;
                    format!("{} {} {}", target.kind(), target.name(), row.change.effect.as_str())
                })
                .collect()),
        }
    }

    async fn writes(&self, script: &str, rows: &[&str]) {
        assert_eq!(
            self.run(script).await.as_deref(),
            Ok(&rows.iter().map(|&r| r.to_owned()).collect::<Vec<_>>()[..]),
            "{script}"
        );
    }

    /// It must fail with this message, and nothing may be otherwise.
    async fn refuses(&self, script: &str, message: &str) {
        let before = self.dump().await;
        let complaint = self.run(script).await.expect_err(script);
        assert!(complaint.contains(message), "{script}: {complaint}");
        assert_eq!(self.dump().await, before, "{script}");
    }

    async fn dump(&self) -> String {
        let output = Command::new("sqlite3").arg(self.file()).arg(".dump").output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
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

/// Runs a script; answers what it complained of.
async fn run(file: &Path, script: &str) -> Option<String> {
    let mut shell = Command::new("sqlite3")
        .arg("-bail")
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("these tests need the sqlite3 program");
    let mut input = shell.stdin.take().unwrap();
    input.write_all(script.as_bytes()).await.unwrap();
    drop(input);
    let output = shell.wait_with_output().await.unwrap();
    (!output.status.success()).then(|| String::from_utf8(output.stderr).unwrap())
}

const BEN: &str = "(SELECT no FROM users WHERE id = 'ben')";
const CLEO: &str = "(SELECT no FROM users WHERE id = 'cleo')";
const VIEWER: &str = "(SELECT no FROM roles WHERE name = 'viewer')";
const EDITOR: &str = "(SELECT no FROM roles WHERE name = 'editor')";

#[tokio::test]
async fn every_table_of_permissions_writes_the_log() {
    let shell = Shell::new().await;
    let ben = &["user ben changed"];
    shell.writes(&format!("INSERT INTO user_roles (user, role) VALUES ({BEN}, {VIEWER})"), ben).await;
    shell.writes("UPDATE user_roles SET expires_at = 99999999999999 WHERE user = (SELECT no FROM users WHERE id = 'ben') AND role = (SELECT no FROM roles WHERE name = 'viewer')", ben).await;
    shell.writes(&format!("DELETE FROM user_roles WHERE user = {BEN} AND role = {VIEWER}"), ben).await;
    shell.writes(&format!("INSERT INTO user_permissions (user, permission) VALUES ({BEN}, 'a')"), ben).await;
    shell.writes("UPDATE user_permissions SET expires_at = 99999999999999 WHERE permission = 'a'", ben).await;
    shell.writes("DELETE FROM user_permissions WHERE permission = 'a'", ben).await;
    let viewer = &["role viewer changed"];
    shell.writes(&format!("INSERT INTO role_permissions VALUES ({VIEWER}, 'a')"), viewer).await;
    shell.writes("DELETE FROM role_permissions WHERE permission = 'a'", viewer).await;
    shell.writes("INSERT INTO roles (tenant, name) VALUES (1, 'new')", &["role new changed"]).await;
    shell
        .writes(
            &format!("INSERT INTO role_includes SELECT no, {VIEWER} FROM roles WHERE name = 'new'"),
            &["role new changed"],
        )
        .await;
    shell.writes("DELETE FROM roles WHERE name = 'new'", &["role new changed"]).await;
    shell.writes(&format!("DELETE FROM role_includes WHERE role = {EDITOR}"), &["role editor changed"]).await;
    shell.writes("UPDATE users SET status = 'suspended' WHERE id = 'ben'", &["user ben suspended"]).await;
    shell.writes("UPDATE users SET status = 'active' WHERE id = 'ben'", ben).await;
    shell.writes("UPDATE users SET kind = 'service' WHERE id = 'ben'", ben).await;
    shell.writes("UPDATE users SET sign_outs = sign_outs + 1 WHERE id = 'ben'", &["user ben signed_out"]).await;
    shell.writes("UPDATE users SET password = 'x' WHERE id = 'ben'", &["user ben signed_out"]).await;
    shell.writes("UPDATE users SET name = 'Ben', email = 'ben@x.org' WHERE id = 'ben'", &[]).await;
    shell.writes("INSERT INTO users (tenant, id) VALUES (1, 'dora')", &["user dora changed"]).await;
    shell.writes(&format!("INSERT INTO identities VALUES (1, 'i', 's', {BEN})"), ben).await;
    shell.writes(&format!("UPDATE identities SET user = {CLEO}"), &["user ben changed", "user cleo changed"]).await;
    shell.writes("DELETE FROM identities", &["user cleo changed"]).await;
    shell.writes("DELETE FROM users WHERE id = 'cleo'", &["user cleo deleted"]).await;
    shell.writes("INSERT INTO tenants (name) VALUES ('acme')", &["tenant acme changed"]).await;
    shell.writes("UPDATE tenants SET status = 'suspended' WHERE name = 'acme'", &["tenant acme suspended"]).await;
    shell.writes("DELETE FROM tenants WHERE name = 'acme'", &["tenant acme deleted"]).await;
    shell.writes("UPDATE meta SET sign_outs = sign_outs + 1", &["everyone  keys_revoked"]).await;
    shell.writes("INSERT INTO lockdown (retry_after_s, since) VALUES (5, 0)", &["lockdown  changed"]).await;
    shell.writes("DELETE FROM lockdown", &["lockdown  changed"]).await;
    shell.writes("INSERT INTO keys VALUES ('k', 'EdDSA', x'00', x'00', 'next', 0, NULL)", &["keys  changed"]).await;
    shell.writes("UPDATE keys SET state = 'retired'", &["keys  changed"]).await;
    shell.writes("DELETE FROM keys", &["keys  changed"]).await;
}

#[tokio::test]
async fn replace_loses_no_change() {
    let shell = Shell::new().await;
    // The row in its way is the same grant: a change like any other.
    shell
        .writes(
            &format!("INSERT OR REPLACE INTO user_roles VALUES ({BEN}, {EDITOR}, 99999999999999)"),
            &["user ben changed"],
        )
        .await;
    shell
        .writes(&format!("REPLACE INTO role_permissions VALUES ({VIEWER}, 'invoices:read')"), &["role viewer changed"])
        .await;
    // Here it is another row, or one with children.
    shell.refuses("INSERT OR REPLACE INTO users (tenant, id) VALUES (1, 'ben')", "exists already").await;
    shell.refuses("INSERT OR REPLACE INTO roles (tenant, name) VALUES (1, 'editor')", "exists already").await;
    shell.refuses("INSERT OR REPLACE INTO tenants (name) VALUES ('default')", "exists already").await;
    shell.refuses("INSERT OR REPLACE INTO users (tenant, id, no) VALUES (1, 'eve', 4)", "numbers are given").await;
    shell.refuses("INSERT OR REPLACE INTO roles (tenant, name, no) VALUES (1, 'eve', 2)", "numbers are given").await;
    shell.refuses("INSERT OR REPLACE INTO meta (epoch) VALUES ('aaaaaaaa')", "one row").await;
    run(&shell.file(), "UPDATE users SET email = 'b@x.org' WHERE id = 'ben'").await;
    shell
        .refuses("INSERT OR REPLACE INTO users (tenant, id, email) VALUES (1, 'eve', 'b@x.org')", "email is taken")
        .await;
    shell.refuses("UPDATE OR REPLACE users SET email = 'b@x.org' WHERE id = 'cleo'", "email is taken").await;
    run(&shell.file(), &format!("INSERT INTO identities VALUES (1, 'i', 's', {BEN})")).await;
    shell
        .refuses(&format!("INSERT OR REPLACE INTO identities VALUES (1, 'i', 's', {CLEO})"), "identity is taken")
        .await;
    run(&shell.file(), "INSERT INTO keys VALUES ('k', 'EdDSA', x'00', x'00', 'next', 0, NULL)").await;
    shell
        .refuses(
            "INSERT OR REPLACE INTO keys VALUES ('k', 'EdDSA', x'00', x'00', 'current', 0, NULL)",
            "exists already",
        )
        .await;
    run(&shell.file(), "INSERT INTO lockdown (tenant, retry_after_s, since) VALUES ('acme', 5, 0)").await;
    shell.refuses("INSERT OR REPLACE INTO lockdown (retry_after_s, since) VALUES (5, 0)", "one lockdown").await;
}

#[tokio::test]
async fn a_key_never_changes() {
    let shell = Shell::new().await;
    let message = "a key never changes";
    for policy in ["", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ROLLBACK"] {
        for change in [
            "users SET id = 'eve' WHERE id = 'ben'",
            "users SET no = 99 WHERE id = 'ben'",
            "users SET tenant = 2 WHERE id = 'ben'",
            "roles SET name = 'x' WHERE name = 'viewer'",
            "roles SET no = 99 WHERE name = 'viewer'",
            "tenants SET name = 'x'",
            "tenants SET no = 99",
            "user_roles SET user = (SELECT no FROM users WHERE id = 'cleo')",
            "user_roles SET role = (SELECT no FROM roles WHERE name = 'viewer')",
            "user_permissions SET permission = 'permcast:operator'",
            "role_permissions SET permission = 'x'",
            "role_includes SET other = role",
        ] {
            shell.refuses(&format!("UPDATE {policy} {change}"), message).await;
        }
    }
    for table in ["users", "roles", "user_roles", "user_permissions", "role_permissions", "role_includes"] {
        shell.refuses(&format!("UPDATE {table} SET rowid = 5"), "no such column: rowid").await;
    }
}

#[tokio::test]
async fn or_ignore_changes_nothing_unlogged() {
    let shell = Shell::new().await;
    shell.writes(&format!("INSERT OR IGNORE INTO user_roles (user, role) VALUES ({BEN}, {EDITOR})"), &[]).await;
    shell.writes("UPDATE OR IGNORE user_roles SET expires_at = 99999999999999", &["user ben changed"]).await;
    shell.writes("UPDATE OR IGNORE users SET status = 'suspended' WHERE id = 'ben'", &["user ben suspended"]).await;
    shell.writes("UPDATE OR IGNORE users SET status = 'gone' WHERE id = 'cleo'", &[]).await;
    shell
        .writes(
            &format!("INSERT OR IGNORE INTO user_permissions (user, permission) VALUES ({CLEO}, 'x')"),
            &["user cleo changed"],
        )
        .await;
}

#[tokio::test]
async fn an_upsert_is_a_change() {
    let shell = Shell::new().await;
    let upsert = |at: &str| {
        format!(
            "INSERT INTO user_roles VALUES ({BEN}, {EDITOR}, {at}) \
             ON CONFLICT (user, role) DO UPDATE SET expires_at = excluded.expires_at"
        )
    };
    shell.writes(&upsert("99999999999999"), &["user ben changed"]).await;
    shell.writes(&upsert("99999999999999"), &[]).await;
    shell
        .refuses(
            "INSERT INTO users (tenant, id) VALUES (1, 'ben') ON CONFLICT DO UPDATE SET password = 'x'",
            "exists already",
        )
        .await;
}

#[tokio::test]
async fn an_import_is_a_change() {
    let shell = Shell::new().await;
    let list = shell.directory.path().join("list.csv");
    let (cleo, viewer) = (number(&shell, CLEO).await, number(&shell, VIEWER).await);
    std::fs::write(&list, format!("{cleo},{viewer},99999999999999\n")).unwrap();
    shell.writes(&format!(".import --csv {} user_roles\n", list.display()), &["user cleo changed"]).await;
    assert_eq!(shell.holds("cleo").await, ["invoices:read"]);
    std::fs::write(&list, format!("{cleo},a:b,99999999999999\n{cleo},a:c,99999999999999\n")).unwrap();
    shell
        .writes(
            &format!(".import --csv {} user_permissions\n", list.display()),
            &["user cleo changed", "user cleo changed"],
        )
        .await;
}

async fn number(shell: &Shell, expression: &str) -> String {
    let output = Command::new("sqlite3").arg(shell.file()).arg(format!("SELECT {expression}")).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn an_attached_database_logs_too() {
    let shell = Shell::new().await;
    let complaint_free = format!(
        "ATTACH '{}' AS p; CREATE TABLE changes (x); CREATE TABLE users (no, tenant, id); \
         DELETE FROM p.user_permissions;",
        shell.file().display()
    );
    let before = shell.store.tail(Seq::ZERO).await.unwrap().head;
    assert_eq!(run(Path::new(":memory:"), &complaint_free).await, None);
    let after = shell.store.tail(before).await.unwrap();
    assert_eq!(after.changes.len(), 1);
    assert_eq!(after.changes[0].target.name(), "ben");
}

#[tokio::test]
async fn what_has_many_children_ends_in_one_row_with_or_without_foreign_keys() {
    for foreign_keys in ["OFF", "ON"] {
        let shell = Shell::new().await;
        let members = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
             INSERT INTO users (tenant, id) SELECT 1, 'u' || i FROM n; \
             INSERT INTO user_roles (user, role) SELECT no, {VIEWER} FROM users WHERE id LIKE 'u%';"
        );
        assert_eq!(run(&shell.file(), &members).await, None);
        let pragma = format!("PRAGMA foreign_keys = {foreign_keys}; ");
        shell.writes(&format!("{pragma} DELETE FROM roles WHERE name = 'viewer'"), &["role viewer changed"]).await;
        assert_eq!(shell.holds("ben").await, ["invoices:write", "reports:read"]);
        shell.writes(&format!("{pragma} DELETE FROM users WHERE id = 'ben'"), &["user ben deleted"]).await;
        shell.writes(&format!("{pragma} DELETE FROM tenants"), &["tenant default deleted"]).await;
        for table in ["users", "roles", "user_roles", "user_permissions", "role_permissions", "role_includes"] {
            assert_eq!(number(&shell, &format!("(SELECT count(*) FROM {table})")).await, "0", "{table}");
        }
    }
}

#[tokio::test]
async fn a_delete_without_where_is_logged_row_by_row() {
    let shell = Shell::new().await;
    shell.writes("DELETE FROM user_permissions", &["user ben changed"]).await;
    shell.writes("DELETE FROM role_permissions", &["role viewer changed", "role editor changed"]).await;
    shell.writes("DELETE FROM role_includes", &["role editor changed"]).await;
    shell.writes("DELETE FROM user_roles", &["user ben changed"]).await;
    shell.writes("DELETE FROM roles", &["role editor changed", "role viewer changed"]).await;
    shell.writes("DELETE FROM users", &["user ben deleted", "user cleo deleted"]).await;
}

#[tokio::test]
async fn no_orphan_is_born() {
    let shell = Shell::new().await;
    shell.refuses("INSERT INTO user_roles (user, role) VALUES (99, 98)", "no such user and role").await;
    shell.refuses("INSERT INTO user_permissions (user, permission) VALUES (99, 'x')", "no such user").await;
    shell.refuses("INSERT INTO role_permissions VALUES (99, 'x')", "no such role").await;
    shell.refuses(&format!("INSERT INTO role_includes VALUES ({VIEWER}, 99)"), "no such roles").await;
    shell.refuses("INSERT INTO users (tenant, id) VALUES (99, 'x')", "no such tenant").await;
    run(&shell.file(), "INSERT INTO tenants (name) VALUES ('acme')").await;
    run(&shell.file(), "INSERT INTO roles (tenant, name) SELECT no, 'x' FROM tenants WHERE name = 'acme'").await;
    let foreign = "(SELECT no FROM roles WHERE name = 'x')";
    shell.refuses(&format!("INSERT INTO user_roles (user, role) VALUES ({BEN}, {foreign})"), "in one tenant").await;
    shell.refuses(&format!("INSERT INTO role_includes VALUES ({VIEWER}, {foreign})"), "in one tenant").await;
}

#[tokio::test]
async fn the_log_is_never_altered() {
    let shell = Shell::new().await;
    let never = "the log is never altered";
    shell.refuses("DELETE FROM changes", never).await;
    shell.refuses("UPDATE changes SET kind = 'x'", never).await;
    shell.refuses("UPDATE OR IGNORE changes SET seq = seq + 100", never).await;
    shell.refuses("UPDATE changes SET rowid = 100 WHERE seq = 1", never).await;
    shell.refuses("REPLACE INTO changes (seq) VALUES (1)", never).await;
    shell.refuses("INSERT INTO changes (seq) VALUES (1000)", "counts up by one").await;
    shell.refuses("INSERT INTO changes (seq) VALUES (0)", "counts up by one").await;
    shell.refuses("BEGIN; INSERT INTO retention (upto) VALUES (1000); DELETE FROM changes; COMMIT", never).await;
    // Retention: below a guard row that is set and taken away in the same transaction.
    let retain = "BEGIN; INSERT INTO retention (upto) VALUES (4); DELETE FROM changes WHERE seq < 4; DELETE FROM retention; COMMIT";
    assert_eq!(run(&shell.file(), retain).await, None);
    let page = shell.store.tail(Seq::ZERO).await.unwrap();
    assert_eq!(page.changes[0].seq.get(), 4);
    shell.refuses("DELETE FROM changes WHERE seq = 4", never).await;
}

#[tokio::test]
async fn sessions_end_in_the_log_and_stay_over() {
    let shell = Shell::new().await;
    let session = "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
    let open = format!(
        "INSERT INTO sessions (id, user, begun, issued_at, seen, created_at, last_refresh_at, expires_at) \
         SELECT '{session}', {BEN}, MAX(seq), 0, 0, 0, 0, 99999999999999 FROM changes"
    );
    shell.writes(&open, &[]).await;
    let lives = async || shell.store.load_session(&session).await.unwrap().value.is_some();
    assert!(lives().await);
    shell.refuses(&open.replace("INSERT", "REPLACE"), "exists already").await;
    shell.refuses("UPDATE sessions SET begun = 99", "a key never changes").await;
    shell.refuses("UPDATE users SET ended_before = 3", "count up sign_outs").await;
    let ended = format!("session {session} signed_out");
    shell.writes("UPDATE sessions SET ended_at = 1", &[&ended]).await;
    assert!(!lives().await);
    shell.refuses("UPDATE sessions SET ended_at = NULL", "stays over").await;
    shell.writes("DELETE FROM sessions", &[]).await;
    shell.writes(&open, &[]).await;
    shell.writes("DELETE FROM sessions", &[&ended]).await;
    for (end, row) in [
        (
            "UPDATE users SET status = 'suspended' WHERE id = 'ben'; UPDATE users SET status = 'active' WHERE id = 'ben'",
            "user ben suspended",
        ),
        ("UPDATE users SET sign_outs = sign_outs + 1 WHERE id = 'ben'", "user ben signed_out"),
        ("UPDATE users SET password = 'y' WHERE id = 'ben'", "user ben signed_out"),
        ("UPDATE tenants SET status = 'suspended'; UPDATE tenants SET status = 'active'", "tenant default suspended"),
        ("UPDATE tenants SET sign_outs = sign_outs + 1 WHERE name = 'default'", "tenant default signed_out"),
        ("UPDATE meta SET sign_outs = sign_outs + 1", "everyone  keys_revoked"),
    ] {
        run(&shell.file(), "DELETE FROM sessions").await;
        shell.writes(&open, &[]).await;
        assert!(lives().await);
        assert_eq!(shell.run(end).await.unwrap()[0], row);
        assert!(!lives().await, "{end}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_touches_everyone_and_grants_nothing() {
    let shell = Shell::new().await;
    let before = shell.store.tail(Seq::ZERO).await.unwrap().head;
    run(&shell.file(), "INSERT INTO changes (kind, target, effect) VALUES ('wormhole', 'x', 'changed')").await;
    run(&shell.file(), "INSERT INTO changes (kind, target, effect, at) VALUES (x'00', 7, NULL, 'soon')").await;
    let page = shell.store.tail(before).await.unwrap();
    assert_eq!((page.changes.len(), page.unreadable), (2, 2));
    assert!(page.changes.iter().all(|change| change.target == crate::domain::Target::Everyone));
    assert_eq!(shell.store.changes(None, before, 10).await.unwrap().len(), 2);

    run(&shell.file(), &format!("INSERT INTO user_permissions (user, permission) VALUES ({CLEO}, 'a::b')")).await;
    assert_eq!(shell.holds("cleo").await, Vec::<String>::new());
    assert_eq!(shell.store.grants(&tenant("default"), &user("cleo")).await.unwrap().unwrap(), []);
    shell.refuses("INSERT INTO users (tenant, id) VALUES (1, 'a b')", "CHECK").await;
    shell.refuses("INSERT INTO roles (tenant, name) VALUES (1, 'A')", "CHECK").await;
}

#[tokio::test]
async fn a_cycle_made_past_the_api_ends_nowhere() {
    let shell = Shell::new().await;
    shell.writes(&format!("INSERT INTO role_includes VALUES ({VIEWER}, {EDITOR})"), &["role viewer changed"]).await;
    assert_eq!(shell.holds("ben").await, ["invoices:read", "invoices:write", "reports:read"]);
    shell.does(vec![permit("ben", "x")]).await;
    assert!(shell.holds("ben").await.contains(&grant("x").to_string()));
    assert!(!shell.store.has_operator().await.unwrap());
}

#[tokio::test]
async fn our_writes_leave_no_actor_behind() {
    let shell = Shell::new().await;
    assert_eq!(number(&shell, "label IS NULL AND mark IS NULL AND at IS NULL FROM acting").await, "1");
    shell.writes("UPDATE users SET status = 'suspended' WHERE id = 'ben'", &["user ben suspended"]).await;
}
