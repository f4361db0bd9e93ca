//! What is copied: tables, by pieces that both databases find by the same keys, in the lines of PostgreSQL's COPY.

/// Tables that say nothing beyond the moment, or that each engine keeps in its own way.
pub(super) const OWN: &[&str] =
    &["meta", "counter", "unnumbered", "audit_unnumbered", "permcast_schema", "retention", "replicas", "batches"];

/// A table.
pub(super) struct Table {
    pub(super) name: String,
    columns: Vec<Column>,
}

/// A column, as PostgreSQL has it.
pub(super) struct Column {
    pub(super) name: String,
    /// Its type.
    pub(super) kind: String,
    /// Its place in the primary key.
    pub(super) key: Option<i64>,
}

/// A row's key, as a list of SQL literals of either database. Both put keys in the same order: numbers by their value, text
/// and bytes by their bytes.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) in_source: String,
    pub(super) in_target: String,
}

/// The rows behind one key, up to another and with it.
pub(super) struct Piece {
    pub(super) after: Option<Key>,
    pub(super) upto: Option<Key>,
}

impl Table {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), columns: Vec::new() }
    }

    pub(super) fn push(&mut self, column: Column) {
        self.columns.push(column);
    }

    /// Its name and its columns, as both databases read them.
    pub(super) fn quoted(&self) -> String {
        quoted(&self.name)
    }

    pub(super) fn columns(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| quoted(&column.name)).collect();
        names.join(", ")
    }

    fn keys(&self) -> Vec<&Column> {
        let mut keys: Vec<&Column> = self.columns.iter().filter(|column| column.key.is_some()).collect();
        keys.sort_by_key(|column| column.key);
        keys
    }

    /// The columns of its key.
    pub(super) fn key(&self) -> String {
        let names: Vec<String> = self.keys().iter().map(|column| quoted(&column.name)).collect();
        names.join(", ")
    }

    /// What SQLite makes a row's key of that PostgreSQL reads, or that it reads itself.
    pub(super) fn key_written(&self, for_target: bool) -> String {
        let literal = |column: &&Column| {
            let name = quoted(&column.name);
            match column.kind.as_str() {
                "bytea" if for_target => format!("'''\\x' || hex({name}) || '''::bytea'"),
                _ => format!("quote({name})"),
            }
        };
        let literals: Vec<String> = self.keys().iter().map(literal).collect();
        literals.join(" || ', ' || ")
    }

    /// What SQLite makes of a row, so that it is the line in which PostgreSQL would give it.
    pub(super) fn line(&self) -> String {
        let log = self.name == "changes";
        let written: Vec<String> = self.columns.iter().map(|column| written(&column.name, &column.kind, log)).collect();
        written.join(" || char(9) || ")
    }

    /// The condition for a piece's rows.
    fn condition(&self, piece: &Piece, literals: impl Fn(&Key) -> &str) -> String {
        let key = self.key();
        let bound = |bound: &Option<Key>, relation: &str| {
            bound.as_ref().map_or_else(|| "TRUE".to_owned(), |at| format!("({key}) {relation} ({})", literals(at)))
        };
        format!("{} AND {}", bound(&piece.after, ">"), bound(&piece.upto, "<="))
    }

    pub(super) fn in_source(&self, piece: &Piece) -> String {
        self.condition(piece, |key| &key.in_source)
    }

    pub(super) fn in_target(&self, piece: &Piece) -> String {
        self.condition(piece, |key| &key.in_target)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// What a column cannot hold in PostgreSQL is sent as it is, and so refused; but a row of the log that nobody can read
/// stays one, and touches everyone.
fn written(column: &str, kind: &str, log: bool) -> String {
    let column = quoted(column);
    let (number, nothing) = (format!("CAST({column} AS TEXT)"), "'\\N'");
    let escapes = [(92, "\\\\"), (8, "\\b"), (9, "\\t"), (10, "\\n"), (11, "\\v"), (12, "\\f"), (13, "\\r")];
    let text = escapes
        .iter()
        .fold(number.clone(), |text, (code, escaped)| format!("replace({text}, char({code}), '{escaped}')"));
    let value = match kind {
        "bigint" if log => {
            return format!("CASE typeof({column}) WHEN 'integer' THEN {number} ELSE {nothing} END");
        }
        "bigint" => format!("CASE typeof({column}) WHEN 'integer' THEN {number} ELSE 'no number' END"),
        "bytea" => format!("'\\\\x' || lower(hex({column}))"),
        _ if log => {
            return format!(
                "CASE WHEN typeof({column}) = 'text' AND instr(CAST({column} AS BLOB), x'00') = 0 THEN {text} \
                 ELSE {nothing} END"
            );
        }
        _ => text,
    };
    format!("CASE WHEN {column} IS NULL THEN {nothing} ELSE {value} END")
}
