//! The database, past every replica: what somebody does with a SQL shell, and what stands in the tables.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::io::AsyncWriteExt as _;

use super::guests::host_name;
use super::history::{Effect, Row, Seq, Set, Touch, guest_name, number, permission_name, role_name, user_name};
use super::model::{Role, State, User};

/// Which file, in a directory of its own that can be taken away.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) path: PathBuf,
}

impl Database {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join("database").join("permcast.db") }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.path.parent().expect("a file has a directory")
    }

    /// The stock shell.
    pub(crate) fn shell(&self) -> tokio::process::Command {
        let mut shell = tokio::process::Command::new("sqlite3");
        shell.args(["-bail", "-cmd", ".timeout 2000"]).arg(&self.path).kill_on_drop(true);
        shell
    }

    /// Does it in one transaction; answers the log's end before and after, or `None` where it was not done.
    pub(crate) async fn write(&self, statements: &str) -> Option<(Seq, Seq)> {
        const HEAD: &str = "SELECT coalesce(max(seq), 0) FROM changes;";
        let script = format!("BEGIN IMMEDIATE; {HEAD} {statements}; {HEAD} COMMIT;");
        let mut shell = self.shell().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut input = shell.as_mut().expect("sqlite3 is on the PATH").stdin.take().expect("it is piped");
        // One that cannot open its database reads nothing.
        let _ = input.write_all(script.as_bytes()).await;
        drop(input);
        let output = shell.expect("it was spawned").wait_with_output().await.ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut heads = text.lines().map(|line| line.parse().expect("a number"));
        output.status.success().then(|| (heads.next().expect("the first"), heads.next().expect("the last")))
    }

    pub(crate) async fn reader(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(&self.path).read_only(true);
        options.disable_statement_logging().connect().await.expect("the database is there")
    }
}

pub(crate) async fn head(reader: &mut SqliteConnection) -> Option<Seq> {
    let head: i64 = sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM changes").fetch_one(reader).await.ok()?;
    u64::try_from(head).ok()
}

pub(crate) async fn log(reader: &mut SqliteConnection) -> Vec<Row> {
    let sql = "SELECT seq, coalesce(actor, ''), coalesce(kind, ''), coalesce(target, ''), effect <> 'changed' FROM changes ORDER BY seq";
    let rows = sqlx::query(sql).fetch_all(reader).await.unwrap();
    let read = |row: &sqlx::sqlite::SqliteRow| Row {
        seq: u64::try_from(row.get::<i64, _>(0)).unwrap(),
        actor: row.get(1),
        touch: Touch { kind: row.get(2), target: row.get(3) },
        ends: row.get::<Option<bool>, _>(4) == Some(true),
    };
    rows.iter().map(read).collect()
}

/// Who may do what, by the tables alone.
pub(crate) async fn state(reader: &mut SqliteConnection, users: u8, roles: u8) -> State {
    let mut state =
        State { users: vec![User::default(); usize::from(users)], roles: vec![Role::default(); usize::from(roles)] };
    let mut pairs = async |sql: &'static str| -> Vec<(u8, u8)> {
        let rows = sqlx::query(sql).fetch_all(&mut *reader).await.unwrap();
        // Who is not of the company has no number, or one beyond it.
        rows.iter().filter_map(|row| number(row.get(0)).zip(number(row.get(1)))).collect()
    };
    let (all_users, all_roles) = (|user: &u8| *user < users, |role: &u8| *role < roles);
    for (user, _) in pairs("SELECT id, 'p0' FROM users WHERE status = 'active' AND id GLOB 'u[0-9]*'").await {
        state.users[usize::from(user)].active = true;
    }
    for (role, _) in pairs("SELECT name, 'p0' FROM roles WHERE name GLOB 'r[0-9]*'").await {
        state.roles[usize::from(role)].exists = true;
    }
    let held = "SELECT u.id, r.name FROM user_roles g JOIN users u ON u.no = g.user JOIN roles r ON r.no = g.role";
    for (user, role) in pairs(held).await.into_iter().filter(|(user, role)| all_users(user) && all_roles(role)) {
        let user = &mut state.users[usize::from(user)];
        user.roles = user.roles.with(role);
    }
    let granted =
        "SELECT u.id, g.permission FROM user_permissions g JOIN users u ON u.no = g.user WHERE u.id GLOB 'u[0-9]*'";
    for (user, permission) in pairs(granted).await {
        let user = &mut state.users[usize::from(user)];
        user.permissions = user.permissions.with(permission);
    }
    let given = "SELECT r.name, p.permission FROM role_permissions p JOIN roles r ON r.no = p.role";
    for (role, permission) in pairs(given).await {
        let role = &mut state.roles[usize::from(role)];
        role.permissions = role.permissions.with(permission);
    }
    let included =
        "SELECT r.name, o.name FROM role_includes i JOIN roles r ON r.no = i.role JOIN roles o ON o.no = i.other";
    for (role, other) in pairs(included).await {
        let role = &mut state.roles[usize::from(role)];
        role.includes = role.includes.with(other);
    }
    state
}

/// What a shell writes for an effect; `None` for what it cannot.
pub(crate) fn statement(effect: &Effect) -> Option<String> {
    let user = |user: u8| format!("(SELECT no FROM users WHERE id = '{}')", user_name(user));
    let role = |role: u8| format!("(SELECT no FROM roles WHERE name = '{}')", role_name(role));
    Some(match *effect {
        Effect::Grant { user: who, permission } => format!(
            "INSERT OR IGNORE INTO user_permissions (user, permission) VALUES ({}, '{}')",
            user(who),
            permission_name(permission)
        ),
        Effect::Revoke { user: who, permission } => format!(
            "DELETE FROM user_permissions WHERE user = {} AND permission = '{}'",
            user(who),
            permission_name(permission)
        ),
        Effect::Join { user: who, role: of } => format!(
            "INSERT OR IGNORE INTO user_roles (user, role) SELECT {}, no FROM roles WHERE name = '{}'",
            user(who),
            role_name(of)
        ),
        Effect::Leave { user: who, role: of } => {
            format!("DELETE FROM user_roles WHERE user = {} AND role = {}", user(who), role(of))
        }
        Effect::Remove { role: of, permission } => format!(
            "DELETE FROM role_permissions WHERE role = {} AND permission = '{}'",
            role(of),
            permission_name(permission)
        ),
        Effect::Drop { role: of } => format!("DELETE FROM roles WHERE name = '{}'", role_name(of)),
        Effect::Activate { user } => format!("UPDATE users SET status = 'active' WHERE id = '{}'", user_name(user)),
        Effect::Suspend { user } => format!("UPDATE users SET status = 'suspended' WHERE id = '{}'", user_name(user)),
        Effect::SignOut { user } => {
            format!("UPDATE users SET sign_outs = sign_outs + 1 WHERE id = '{}'", user_name(user))
        }
        Effect::SignOutAll => "UPDATE meta SET sign_outs = sign_outs + 1".to_owned(),
        _ => return None,
    })
}

/// The company: users, roles, and as many actors as may be wanted, all with the operator's password.
pub(crate) fn founding(users: u8, roles: u8, actors: u16, checkers: u16, guests: usize) -> String {
    let mut sql = String::new();
    let mut run = |statement: String| sql.push_str(&(statement + ";\n"));
    let of_root = |id: &str| {
        format!("INSERT INTO users (tenant, id, password) SELECT tenant, '{id}', password FROM users WHERE id = 'root'")
    };
    let may = |id: &str, permission: &str| {
        format!(
            "INSERT INTO user_permissions (user, permission) SELECT no, '{permission}' FROM users WHERE id = '{id}'"
        )
    };
    for role in 0..roles {
        run(format!("INSERT INTO roles (tenant, name) VALUES (1, '{}')", role_name(role)));
        for permission in [role, role + 5] {
            run(format!(
                "INSERT INTO role_permissions (role, permission) SELECT no, '{}' FROM roles WHERE name = '{}'",
                permission_name(permission),
                role_name(role)
            ));
        }
    }
    for user in 0..users {
        run(of_root(&user_name(user)));
        run(statement(&Effect::Join { user, role: user % roles }).expect("a shell can"));
        run(statement(&Effect::Grant { user, permission: user % 10 }).expect("a shell can"));
    }
    for actor in 0..actors {
        run(of_root(&format!("w{actor}")));
        run(may(&format!("w{actor}"), "permcast:operator"));
    }
    for guest in 0..guests {
        run(of_root(&guest_name(guest)));
        run(of_root(&host_name(guest)));
        run(may(&host_name(guest), "permcast:operator"));
    }
    for checker in 0..checkers {
        run(of_root(&format!("c{checker}")));
        run(may(&format!("c{checker}"), "permcast:check"));
    }
    sql
}

/// All permissions that anybody may have.
pub(crate) const PERMISSIONS: u8 = 16;

pub(crate) fn permissions_of(names: &[String]) -> Option<Set> {
    names.iter().try_fold(Set::default(), |set, name| Some(set.with(number(name).filter(|p| *p < PERMISSIONS)?)))
}
