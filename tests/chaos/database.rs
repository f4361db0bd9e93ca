//! The database, past every replica: what somebody does with a SQL shell, and what stands in the tables.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::io::AsyncWriteExt as _;

use super::guests::host_name;
use super::history::{Effect, Row, Seq, Set, Touch, guest_name, number, permission_name, role_name, user_name};
use super::model::{Role, State, User};
use super::postgres::binaries;

/// Longest wait for a connection to read by.
const REACHED_WITHIN: Duration = Duration::from_secs(2);

/// Which one it is.
#[derive(Clone)]
pub(crate) enum Database {
    /// A file of SQLite's, in a directory of its own that can be taken away.
    File(PathBuf),
    /// The address of one on a PostgreSQL server.
    Server(String),
}

impl Database {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        Self::File(directory.join("database").join("permcast.db"))
    }

    /// Where replicas find it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::File(path) => format!("sqlite://{}", path.display()),
            Self::Server(url) => url.clone(),
        }
    }

    /// Of one that is a file.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::File(path) => path.parent(),
            Self::Server(_) => None,
        }
    }

    /// The stock shell.
    pub(crate) fn shell(&self) -> tokio::process::Command {
        let mut shell = match self {
            Self::File(path) => {
                let mut shell = tokio::process::Command::new("sqlite3");
                shell.args(["-bail", "-cmd", ".timeout 2000"]).arg(path);
                shell
            }
            Self::Server(url) => {
                let mut shell = tokio::process::Command::new(binaries().join("psql"));
                shell.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url]);
                shell.env("PGOPTIONS", "-c lock_timeout=2000").env("PGCONNECT_TIMEOUT", "3");
                shell
            }
        };
        shell.kill_on_drop(true);
        shell
    }

    /// Does it in one transaction; answers the log's end before and after, or `None` where it was not done.
    pub(crate) async fn write(&self, statements: &str) -> Option<(Seq, Seq)> {
        let statements = statements.trim_end().trim_end_matches(';');
        let script = match self {
            Self::File(_) => format!("BEGIN IMMEDIATE; {HEAD}; {statements}; {HEAD}; COMMIT;"),
            // Under the log's lock; what a shell writes is numbered as if it committed there.
            Self::Server(_) => format!(
                "BEGIN; DO 'BEGIN PERFORM 1 FROM counter FOR UPDATE; END'; {HEAD}; DO $all$ BEGIN {statements}; END $all$; \
                 SET CONSTRAINTS ALL IMMEDIATE; {HEAD}; COMMIT;"
            ),
        };
        let mut shell = self.shell().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut input = shell.as_mut().expect("the shell is on the PATH").stdin.take().expect("it is piped");
        // One that cannot open its database reads nothing.
        let _ = input.write_all(script.as_bytes()).await;
        drop(input);
        let output = shell.expect("it was spawned").wait_with_output().await.ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut heads = text.lines().map(|line| line.parse().expect("a number"));
        output.status.success().then(|| (heads.next().expect("the first"), heads.next().expect("the last")))
    }

    pub(crate) async fn reader(&self) -> Reader {
        self.try_reader().await.expect("the database is there")
    }

    pub(crate) async fn try_reader(&self) -> Option<Reader> {
        let opening = async {
            match self {
                Self::File(path) => {
                    let options = SqliteConnectOptions::new().filename(path).read_only(true);
                    options.disable_statement_logging().connect().await.map(Reader::File)
                }
                Self::Server(url) => {
                    let options: PgConnectOptions = url.parse()?;
                    options.disable_statement_logging().connect().await.map(Reader::Server)
                }
            }
        };
        tokio::time::timeout(REACHED_WITHIN, opening).await.ok()?.ok()
    }
}

/// A connection that only reads.
pub(crate) enum Reader {
    File(SqliteConnection),
    Server(PgConnection),
}

impl Reader {
    /// What is selected, all of it as text.
    async fn rows(&mut self, sql: &'static str) -> Result<Vec<Vec<String>>, sqlx::Error> {
        fn texts<R: sqlx::Row>(rows: &[R]) -> Vec<Vec<String>>
        where
            usize: sqlx::ColumnIndex<R>,
            for<'a> Option<String>: sqlx::Decode<'a, R::Database> + sqlx::Type<R::Database>,
        {
            let text = |row: &R, column| row.get::<Option<String>, _>(column).unwrap_or_default();
            rows.iter().map(|row| (0..row.len()).map(|column| text(row, column)).collect()).collect()
        }
        Ok(match self {
            Self::File(connection) => texts(&sqlx::query(sql).fetch_all(connection).await?),
            Self::Server(connection) => texts(&sqlx::query(sql).fetch_all(connection).await?),
        })
    }
}

const HEAD: &str = "SELECT CAST(coalesce(max(seq), 0) AS text) FROM changes";

pub(crate) async fn head(reader: &mut Reader) -> Option<Seq> {
    reader.rows(HEAD).await.ok()?.first()?.first()?.parse().ok()
}

pub(crate) async fn epoch(reader: &mut Reader) -> String {
    reader.rows("SELECT epoch FROM meta").await.unwrap().remove(0).remove(0)
}

pub(crate) async fn log(reader: &mut Reader) -> Vec<Row> {
    let sql = "SELECT CAST(seq AS text), actor, kind, target, effect FROM changes ORDER BY changes.seq";
    let rows = reader.rows(sql).await.unwrap();
    let read = |row: Vec<String>| match <[String; 5]>::try_from(row).expect("five columns") {
        [seq, actor, kind, target, effect] => Row {
            seq: seq.parse().expect("a number"),
            actor,
            touch: Touch { kind, target },
            ends: !effect.is_empty() && effect != "changed",
        },
    };
    rows.into_iter().map(read).collect()
}

/// Who may do what, by the tables alone.
pub(crate) async fn state(reader: &mut Reader, users: u8, roles: u8) -> State {
    let mut state =
        State { users: vec![User::default(); usize::from(users)], roles: vec![Role::default(); usize::from(roles)] };
    let mut pairs = async |sql: &'static str| -> Vec<(u8, u8)> {
        let rows = reader.rows(sql).await.unwrap();
        // Who is not of the company has no number, or one beyond it.
        rows.iter().filter_map(|row| number(&row[0]).zip(number(&row[1]))).collect()
    };
    let (all_users, all_roles) = (|user: &u8| *user < users, |role: &u8| *role < roles);
    for (user, _) in pairs("SELECT id, 'p0' FROM users WHERE status = 'active' AND id LIKE 'u%'").await {
        state.users[usize::from(user)].active = true;
    }
    for (role, _) in pairs("SELECT name, 'p0' FROM roles WHERE name LIKE 'r%'").await {
        state.roles[usize::from(role)].exists = true;
    }
    let held = "SELECT u.id, r.name FROM user_roles g JOIN users u ON u.no = g.\"user\" JOIN roles r ON r.no = g.role";
    for (user, role) in pairs(held).await.into_iter().filter(|(user, role)| all_users(user) && all_roles(role)) {
        let user = &mut state.users[usize::from(user)];
        user.roles = user.roles.with(role);
    }
    let granted =
        "SELECT u.id, g.permission FROM user_permissions g JOIN users u ON u.no = g.\"user\" WHERE u.id LIKE 'u%'";
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
            "INSERT INTO user_permissions (\"user\", permission) VALUES ({}, '{}') ON CONFLICT DO NOTHING",
            user(who),
            permission_name(permission)
        ),
        Effect::Revoke { user: who, permission } => format!(
            "DELETE FROM user_permissions WHERE \"user\" = {} AND permission = '{}'",
            user(who),
            permission_name(permission)
        ),
        Effect::Join { user: who, role: of } => format!(
            "INSERT INTO user_roles (\"user\", role) SELECT {}, no FROM roles WHERE name = '{}' ON CONFLICT DO NOTHING",
            user(who),
            role_name(of)
        ),
        Effect::Leave { user: who, role: of } => {
            format!("DELETE FROM user_roles WHERE \"user\" = {} AND role = {}", user(who), role(of))
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
            "INSERT INTO user_permissions (\"user\", permission) SELECT no, '{permission}' FROM users WHERE id = '{id}'"
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
