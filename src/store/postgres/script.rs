//! Statements that go to the server together, as the function `operate` takes them.

use sqlx::Postgres as Sql;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use crate::domain::Origin;
use crate::store::sql::statement::Arg;

use super::query::sayable;

/// Statements that share these arguments, done from there. The arguments go in lists by type; in each there is a place for all.
pub(super) fn script(origin: &Origin, statements: &[&str], args: &[Arg]) -> Query<'static, Sql, PgArguments> {
    let Lists { numbers, texts, bytes } = Lists::of(args);
    sqlx::query("SELECT seq, at, tenant, kind, target, \"user\", effect FROM operate($1, $2, $3, $4, $5, $6)")
        .bind(origin.address.clone().map(sayable))
        .bind(origin.request.clone().map(sayable))
        .bind(statements.iter().map(|statement| placed(statement, args)).collect::<Vec<_>>())
        .bind(numbers)
        .bind(texts)
        .bind(bytes)
}

struct Lists {
    numbers: Vec<Option<i64>>,
    texts: Vec<Option<String>>,
    bytes: Vec<Option<Vec<u8>>>,
}

impl Lists {
    fn of(args: &[Arg]) -> Self {
        let none = args.len();
        let mut lists = Self { numbers: vec![None; none], texts: vec![None; none], bytes: vec![None; none] };
        for (at, arg) in args.iter().enumerate() {
            match arg.clone() {
                Arg::Int(number) => lists.numbers[at] = number,
                Arg::Text(text) => lists.texts[at] = text.map(sayable),
                Arg::Blob(bytes) => lists.bytes[at] = bytes,
            }
        }
        lists
    }
}

/// A statement in which each `$n` says in which list its argument is, and where.
fn placed(statement: &str, args: &[Arg]) -> String {
    let mut parts = statement.split('$');
    let mut placed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        let list = number.parse::<usize>().ok().and_then(|number| args.get(number.checked_sub(1)?)).map(list_of);
        placed.push('$');
        match list {
            Some(list) => placed.extend([list, "[", number, "]", rest]),
            None => placed.push_str(part),
        }
    }
    placed
}

/// Which of the lists an argument is in.
fn list_of(arg: &Arg) -> &'static str {
    match arg {
        Arg::Int(_) => "1",
        Arg::Text(_) => "2",
        Arg::Blob(_) => "3",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::statement::args;

    #[test]
    fn each_argument_is_where_its_statement_looks_for_it() {
        let args = args!["x", None::<&str>, 7_i64, &[1_u8][..], "y\0"];
        assert_eq!(placed("UPDATE a SET b = $2, c = $1", &args), "UPDATE a SET b = $2[2], c = $2[1]");
        assert_eq!(
            placed("DELETE FROM d WHERE e = $3 AND f = '$[0]'", &args),
            "DELETE FROM d WHERE e = $1[3] AND f = '$[0]'"
        );
        assert_eq!(placed("SELECT $4, $5", &args), "SELECT $3[4], $2[5]");
        let lists = Lists::of(&args);
        assert_eq!(lists.numbers, [None, None, Some(7), None, None]);
        assert_eq!(lists.texts, [Some("x"), None, None, None, Some("y\u{FFFF}")].map(|text| text.map(str::to_owned)));
        assert_eq!(lists.bytes, [None, None, None, Some(vec![1]), None]);
    }
}
