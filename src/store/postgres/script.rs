//! Statements that go to the server together, as the function `operate` takes them.

use sqlx::Postgres as Sql;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use crate::store::sql::statement::Arg;

use super::query::sayable;

/// Statements, and their arguments in lists by type: in each list there is a place for every argument.
#[derive(Debug, Default)]
pub(super) struct Script {
    statements: Vec<String>,
    numbers: Vec<Option<i64>>,
    texts: Vec<Option<String>>,
    bytes: Vec<Option<Vec<u8>>>,
}

impl Script {
    /// Adds statements that share these arguments.
    pub(super) fn add<'a>(&mut self, statements: impl IntoIterator<Item = &'a str>, args: &[Arg]) {
        let before = self.numbers.len();
        self.statements.extend(statements.into_iter().map(|statement| placed(statement, args, before)));
        for arg in args {
            let (number, text, bytes) = match arg.clone() {
                Arg::Int(number) => (number, None, None),
                Arg::Text(text) => (None, text.map(sayable), None),
                Arg::Blob(bytes) => (None, None, bytes),
            };
            self.numbers.push(number);
            self.texts.push(text);
            self.bytes.push(bytes);
        }
    }

    pub(super) fn query(self) -> Query<'static, Sql, PgArguments> {
        sqlx::query("SELECT seq, at, tenant, kind, target, \"user\", effect FROM operate($1, $2, $3, $4)")
            .bind(self.statements)
            .bind(self.numbers)
            .bind(self.texts)
            .bind(self.bytes)
    }
}

/// A statement in which each `$n` says in which list its argument is, and where.
fn placed(statement: &str, args: &[Arg], before: usize) -> String {
    let mut parts = statement.split('$');
    let mut placed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number: Option<usize> = part[..digits].parse().ok();
        match number.and_then(|number| Some((number, args.get(number.checked_sub(1)?)?))) {
            Some((number, arg)) => {
                let list = match arg {
                    Arg::Int(_) => 1,
                    Arg::Text(_) => 2,
                    Arg::Blob(_) => 3,
                };
                placed.push_str(&format!("${list}[{}]{}", before + number, &part[digits..]));
            }
            None => {
                placed.push('$');
                placed.push_str(part);
            }
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::statement::args;

    #[test]
    fn each_argument_is_where_its_statement_looks_for_it() {
        let mut script = Script::default();
        script.add(["UPDATE a SET b = $2, c = $1"], &args!["x", None::<&str>]);
        script.add(["DELETE FROM d WHERE e = $3 AND f = '$[0]'", "SELECT $1, $2"], &args![7_i64, &[1_u8][..], "y\0"]);
        assert_eq!(
            script.statements,
            [
                "UPDATE a SET b = $2[2], c = $2[1]",
                "DELETE FROM d WHERE e = $2[5] AND f = '$[0]'",
                "SELECT $1[3], $3[4]"
            ]
        );
        assert_eq!(script.numbers, [None, None, Some(7), None, None]);
        assert_eq!(script.texts[..2], [Some("x".to_owned()), None]);
        assert_eq!(script.texts[4].as_deref(), Some("y\u{FFFF}"));
        assert_eq!(script.bytes[3].as_deref(), Some(&[1_u8][..]));
    }
}
