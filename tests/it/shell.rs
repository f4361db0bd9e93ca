//! Somebody who sits at a SQL shell: the stock `sqlite3`, with a transaction that stays open.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::harness::soon;

pub(crate) struct Shell {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Shell {
    pub(crate) fn open(database: &Path) -> Self {
        let mut child = Command::new("sqlite3")
            .args(["-bail", "-cmd", ".timeout 5000"])
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("sqlite3 is on the PATH");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, output }
    }

    /// One that holds the writer's lock.
    pub(crate) async fn holding(database: &Path) -> Self {
        let mut shell = Self::open(database);
        shell.run("BEGIN IMMEDIATE;").await;
        shell
    }

    /// Runs it to its end.
    pub(crate) async fn run(&mut self, sql: &str) {
        self.input.write_all(format!("{sql}\nSELECT 'done';\n").as_bytes()).await.unwrap();
        let answer = async {
            while let Some(line) = self.output.next_line().await.unwrap() {
                if line == "done" {
                    return;
                }
            }
            panic!("sqlite3 would not run {sql}");
        };
        soon("sqlite3", answer).await;
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
