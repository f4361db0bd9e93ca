//! A database that is held, slow, or gone for a while, under each word of `PERMCAST_ON_STALE`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::client::{Answer, Client};
use crate::harness::{Cluster, PASSWORD, until};
use crate::shell::Shell;
use crate::witness::Witness;

const WORDS: [&str; 3] = ["deny", "lookup", "serve"];

async fn started(on_stale: &str) -> (Cluster, Witness) {
    let cluster = Cluster::start_with(&[("PERMCAST_ON_STALE", on_stale)]).await;
    let witness = Witness::new(&cluster).await;
    (cluster, witness)
}

/// Not now, and when to come again.
fn unavailable(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 503, "{what}: {answer:?}");
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{what}: {answer:?}");
}

/// Decides about `ben` in every way that there is.
async fn decisions(ben: &Client) -> Vec<(&'static str, Answer)> {
    let question = json!({"subject": {"type": "user", "id": "ben"}, "resource": {"type": "invoices"}, "action": {"name": "write"}});
    vec![
        ("me", ben.get("/v1/me").await),
        ("evaluation", ben.post("/access/v1/evaluation", question).await),
        ("forward-auth", ben.get("/v1/forward-auth?require=invoices:write").await),
    ]
}

#[tokio::test]
async fn a_held_database_refuses_writes_and_goes_on_deciding() {
    let played = WORDS.map(async |on_stale| {
        let (cluster, mut witness) = started(on_stale).await;
        let shell = Shell::holding(&cluster.database()).await;
        let path = "/v1/tenants/default/users/cleo/permissions/x";
        let refused = witness.root.put(path);
        let reading = async {
            for _ in 0..20 {
                for (what, answer) in decisions(&witness.ben()).await {
                    assert_eq!(answer.status, 200, "{on_stale}, {what}: {answer:?}");
                }
                assert_eq!(witness.ready().await.status, 200, "reading goes on beside a writer");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let (refused, ()) = tokio::join!(refused, reading);
        unavailable(&refused, on_stale);
        shell.kill().await;
        assert!(witness.root.put(path).await.ok().body["change"]["seq"].is_number(), "the refused one was not done");
        witness.change().await;
    });
    join_all(played).await;
}

#[tokio::test]
async fn a_database_that_is_held_in_slices_delays_writes_alone() {
    let (cluster, mut witness) = started("deny").await;
    let mut shell = Shell::open(&cluster.database());
    let holding = async {
        loop {
            shell.run("BEGIN IMMEDIATE;").await;
            tokio::time::sleep(Duration::from_millis(120)).await;
            // What the shell writes is in the log like anything else.
            shell.run("UPDATE users SET name = name WHERE id = 'cleo'; COMMIT;").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let changes = async {
        for _ in 0..12 {
            witness.change().await;
        }
    };
    tokio::select! {
        () = changes => {}
        () = holding => {}
    }
}

/// The database's folder, in another place.
struct Gone {
    at: PathBuf,
    away: PathBuf,
}

impl Gone {
    fn new(directory: &Path) -> Self {
        let away = directory.with_extension("away");
        std::fs::rename(directory, &away).unwrap();
        Self { at: directory.to_owned(), away }
    }

    fn back(&self) {
        std::fs::rename(&self.away, &self.at).unwrap();
    }
}

#[tokio::test]
async fn a_database_that_is_gone_for_a_while_lets_nothing_old_through() {
    let played = WORDS.map(async |on_stale| {
        let (cluster, mut witness) = started(on_stale).await;
        let gone = Gone::new(cluster.directory.path());
        until("that it is missed", async || (witness.ready().await.body["feed"] == "down").then_some(())).await;
        let ready = witness.ready().await;
        assert_eq!(ready.status, 200, "both are in the same case, and one outage must not take all out: {ready:?}");
        assert_eq!((&ready.body["database"], &ready.body["broker"]), (&json!("down"), &json!("up")));
        // Somebody takes his right where the database is now, and no replica can know.
        let mut shell = Shell::open(&gone.away.join("permcast.db"));
        shell.run("DELETE FROM user_roles WHERE user = (SELECT no FROM users WHERE id = 'ben');").await;
        shell.kill().await;
        for _ in 0..5 {
            for (what, answer) in decisions(&witness.ben()).await {
                match on_stale {
                    "serve" if what == "evaluation" => assert_eq!(answer.body["context"]["stale"], true, "{answer:?}"),
                    "serve" if what == "me" => assert_eq!(answer.body["stale"], true, "{answer:?}"),
                    "serve" => assert_eq!(answer.status, 200, "{answer:?}"),
                    _ => unavailable(&answer, what),
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Nothing is written or handed out that needs the database.
        unavailable(&witness.root.put("/v1/tenants/default/users/cleo/permissions/x").await, "a write");
        unavailable(&witness.on_b.sign_in("default", "cleo", PASSWORD).await, "a sign-in");
        let refused = witness.on_b.try_refresh(&witness.tokens.refresh).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        gone.back();
        // Never again what was before.
        until("that it is back", async || (witness.ready().await.body["feed"] == "up").then_some(())).await;
        for (what, answer) in decisions(&witness.ben()).await {
            assert_eq!(answer.status, 401, "{on_stale}, {what}: {answer:?}");
        }
        witness.socket.expect("permissions_changed").await;
        witness.refresh().await;
        let left = decisions(&witness.ben()).await;
        assert_eq!(left.iter().map(|(_, answer)| answer.status.as_u16()).collect::<Vec<_>>(), [200, 200, 403]);
        assert_eq!(left[1].1.body["decision"], false);
        assert_eq!(cluster.sql("SELECT count(*) FROM user_permissions WHERE permission = 'x'").trim(), "0");
        witness.change().await;
    });
    join_all(played).await;
}
