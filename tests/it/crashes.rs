//! Processes that are killed at any instant, and machines that have no more room: what was acknowledged is there and takes
//! effect, and nothing is there by half.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::client::{Client, send, seq};
use crate::company::company;
use crate::harness::{Cluster, OPERATOR, Replica, operate, operation, until};

fn sql(database: &Path, statement: &str) -> String {
    let output = std::process::Command::new("sqlite3").arg(database).arg(statement).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn number(database: &Path, statement: &str) -> u64 {
    sql(database, statement).parse().unwrap()
}

/// Whole as a file, and as a log: without a hole, and with a row for each grant.
fn is_whole(database: &Path) {
    assert_eq!(sql(database, "PRAGMA integrity_check"), "ok");
    assert_eq!(sql(database, "SELECT count(*) = COALESCE(max(seq), 0) FROM changes"), "1", "a number is missing");
}

/// Grants two permissions together, again and again, until it is cut off; gives those that were acknowledged with their
/// positions.
async fn grants(root: Client, prefix: String) -> BTreeMap<String, u64> {
    let mut acknowledged = BTreeMap::new();
    for n in 0.. {
        let name = format!("{prefix}-{n}");
        let put = |half: &str| json!({"op": "put", "path": format!("users/ben/permissions/{name}:{half}")});
        let batch = json!({"operations": [put("a"), put("b")]});
        let request = root.request(reqwest::Method::POST, "/v1/tenants/default/batch").json(&batch);
        let Ok(answer) = request.send().await else { break };
        assert!(answer.status().is_success(), "{answer:?}");
        let version = answer.headers()["permcast-version"].to_str().unwrap().to_owned();
        if answer.bytes().await.is_err() {
            break;
        }
        acknowledged.insert(name, seq(&version));
    }
    acknowledged
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_kill_and_takes_effect_everywhere() {
    let mut cluster = Cluster::start().await;
    company(&cluster).await;
    let database = cluster.database();
    let on_b = cluster.b.client();
    let watcher = on_b.with(&on_b.login(OPERATOR).await);
    let mut all = BTreeMap::new();
    for (round, instant) in [37, 5, 71, 18, 123].into_iter().enumerate() {
        let on_a = cluster.a.client();
        let root = on_a.with(&on_a.login(OPERATOR).await);
        // Several at a time, so that they share commits.
        let writers = (0..6).map(|writer| tokio::spawn(grants(root.clone(), format!("r{round}w{writer}"))));
        let writers: Vec<_> = writers.collect();
        tokio::time::sleep(Duration::from_millis(instant)).await;
        cluster.a.signal("-KILL");
        cluster.a.exited().await;
        for writer in writers {
            all.extend(writer.await.unwrap());
        }

        is_whole(&database);
        let held = sql(&database, "SELECT permission FROM user_permissions ORDER BY permission");
        let held: std::collections::BTreeSet<_> = held.lines().collect();
        let half = |name: &str, half: &str| held.contains(format!("{name}:{half}").as_str());
        let head = number(&database, "SELECT max(seq) FROM changes");
        for (name, at) in &all {
            assert!(half(name, "a") && half(name, "b") && *at <= head, "{name} was acknowledged at {at} of {head}");
        }
        for grant in held.iter().filter(|grant| grant.starts_with('r')) {
            let name = grant.split_once(':').unwrap().0;
            assert!(half(name, "a") && half(name, "b"), "{name} is there by half");
        }
        let logged =
            number(&database, "SELECT count(*) FROM changes WHERE summary LIKE 'permission r%granted to user ben'");
        let granted = held.iter().filter(|grant| grant.starts_with('r')).count();
        assert!(logged > 0 || granted == 0, "{logged} rows for {granted} grants");

        // Whoever lives has applied all of it, told by the broker or not.
        let version = format!("{}.{head}", sql(&database, "SELECT epoch FROM meta"));
        let asked = watcher.request(reqwest::Method::GET, "/v1/tenants/default/users/ben/permissions");
        let seen = send(asked.header("Permcast-At-Least", version)).await.ok().body["permissions"].to_string();
        if let Some((last, _)) = all.last_key_value() {
            assert!(seen.contains(&format!("{last}:b")), "{last} takes no effect");
        }
        cluster.a = cluster.another("a").await;
    }
    assert!(!all.is_empty(), "nothing was acknowledged at all");
}

#[tokio::test]
async fn a_migration_that_is_killed_has_happened_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut finished = 0;
    for (round, instant) in [0, 1, 2, 3, 5, 8, 12, 17, 23, 30, 45, 70].into_iter().enumerate() {
        let database = directory.path().join(format!("{round}.db"));
        let mut migrate = operation(&database, &["migrate"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(instant)).await;
        migrate.kill().unwrap();
        finished += u32::from(migrate.wait().unwrap().success());
        if database.exists() {
            assert_eq!(sql(&database, "PRAGMA integrity_check"), "ok");
            let things = number(&database, "SELECT count(*) FROM sqlite_schema");
            let version = number(&database, "PRAGMA user_version");
            assert_eq!(things > 0, version > 0, "{things} things of version {version}");
            if things > 0 {
                assert_eq!(sql(&database, "SELECT length(epoch) FROM meta"), "8");
            }
        }
        let (code, said) = operate(&database, &["migrate"]);
        assert_eq!(code, 0, "{said}");
        is_whole(&database);
    }
    assert!(finished < 12, "none was ever killed in time");
}

#[tokio::test]
async fn a_restore_that_is_killed_has_happened_or_not() {
    let mut cluster = Cluster::without_broker().await;
    let (root, _) = company(&cluster).await;
    let many = |n: usize| {
        json!({"operations": (0..500).map(|k| json!({"op": "put",
        "path": format!("users/cleo/permissions/n{n}-{k}")})).collect::<Vec<_>>()})
    };
    root.post("/v1/tenants/default/batch", many(0)).await.ok();
    let backup = cluster.backup("backup.db");
    root.put("/v1/tenants/default/users/ben/permissions/since").await.version();
    let database = cluster.database();
    for replica in [&mut cluster.a, &mut cluster.b] {
        replica.terminate();
        replica.exited().await;
    }
    let since = "SELECT count(*) FROM user_permissions WHERE permission = 'since'";
    let mut before = sql(&database, "SELECT epoch FROM meta");
    let (mut done, mut undone) = (0, 0);
    for instant in [1, 4, 8, 12, 16, 20, 25, 30, 40, 55, 90, 140, 250] {
        let mut restore = operation(&database, &["restore", backup.to_str().unwrap()]);
        let mut restore = restore.stdout(std::process::Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(instant)).await;
        restore.kill().unwrap();
        restore.wait().unwrap();
        is_whole(&database);
        let (epoch, kept) = (sql(&database, "SELECT epoch FROM meta"), number(&database, since) == 1);
        assert_eq!(epoch == before, kept, "the old state belongs to the old epoch, and the new one to the new");
        assert_eq!(number(&database, "SELECT count(*) FROM user_permissions"), 501 + u64::from(kept));
        let triggers = number(&database, "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'");
        assert_eq!(triggers, number(&backup, "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'"));
        if kept {
            undone += 1;
        } else {
            done += 1;
            // It was taken back to what it was before, to be restored once more.
            sql(&database, "INSERT INTO user_permissions SELECT no, 'since', NULL FROM users WHERE id = 'ben'");
        }
        before = epoch;
    }
    assert!(undone > 0, "none was killed in time, and {done} were done");
    let replica = cluster.another("a").await;
    let back = replica.client();
    back.with(&back.login(OPERATOR).await).get("/v1/me").await.ok();
}

/// Sets a limit of a running process.
fn limit(replica: &Replica, what: &str) {
    let status = std::process::Command::new("prlimit").args(["--pid", &replica.pid().to_string(), what]).status();
    assert!(status.unwrap().success(), "{what}");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_serves_on() {
    let cluster = Cluster::without_broker().await;
    let (root, _) = company(&cluster).await;
    let database = cluster.database();
    let log = std::path::PathBuf::from(format!("{}-wal", database.display()));
    let size = std::fs::metadata(&log).unwrap().len().max(std::fs::metadata(&database).unwrap().len());
    limit(&cluster.a, &format!("--fsize={}:", size + 16 * 4096));
    let put = async |n: usize| root.put(&format!("/v1/tenants/default/users/ben/permissions/full-{n}")).await;
    let mut n = 0;
    let refused = loop {
        let answer = put(n).await;
        if !answer.status.is_success() {
            break answer;
        }
        n += 1;
        assert!(n < 2000, "it never filled up");
    };
    refused.problem(503, "unavailable");
    cluster.a.client().get("/healthz").await.ok();
    root.get("/v1/me").await.ok();
    is_whole(&database);
    let held = || number(&database, "SELECT count(*) FROM user_permissions WHERE permission LIKE 'full-%'");
    assert_eq!(held(), n as u64, "neither more nor less than was acknowledged");
    // The other has room, and what it writes arrives.
    let on_b = cluster.b.client();
    let root_b = on_b.with(&on_b.login(OPERATOR).await);
    let version = root_b.put("/v1/tenants/default/users/ben/permissions/b").await.version();
    let asked = root.request(reqwest::Method::GET, "/v1/me").header("Permcast-At-Least", version);
    send(asked).await.ok();

    limit(&cluster.a, "--fsize=unlimited:");
    until("room", async || put(n).await.status.is_success().then_some(())).await;
    assert_eq!(held(), n as u64 + 1);
}

#[tokio::test]
async fn without_descriptors_it_serves_whom_it_has_and_recovers() {
    let cluster = Cluster::without_broker().await;
    let (root, _) = company(&cluster).await;
    root.get("/v1/me").await.ok();
    let open = std::fs::read_dir(format!("/proc/{}/fd", cluster.a.pid())).unwrap().count();
    limit(&cluster.a, &format!("--nofile={}:", open + 3));
    let address = cluster.a.base.trim_start_matches("http://").to_owned();
    let crowd: Vec<_> = (0..40).map(|_| std::net::TcpStream::connect(&address).unwrap()).collect();
    // The connection that is there goes on; what takes a new file may be refused, but cleanly.
    for n in 0..20 {
        root.get("/v1/me").await.ok();
        let answer = root.put(&format!("/v1/tenants/default/users/ben/permissions/p{n}")).await;
        match answer.status.as_u16() {
            200 => drop(answer.version()),
            _ => answer.problem(503, "unavailable"),
        }
    }
    drop(crowd);
    limit(&cluster.a, "--nofile=1024:");
    until("a new connection", async || {
        let answer = cluster.a.client().request(reqwest::Method::GET, "/healthz").send().await;
        answer.is_ok_and(|answer| answer.status().is_success()).then_some(())
    })
    .await;
    root.put("/v1/tenants/default/users/ben/permissions/after").await.version();
    is_whole(&cluster.database());
}

#[tokio::test]
async fn a_backup_is_of_one_moment_though_all_write() {
    let cluster = Cluster::without_broker().await;
    let (root, _) = company(&cluster).await;
    let writers: Vec<_> = (0..4).map(|writer| tokio::spawn(grants(root.clone(), format!("w{writer}")))).collect();
    for n in 0..4 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let backup = cluster.backup(&format!("{n}.db"));
        is_whole(&backup);
        let held =
            sql(&backup, "SELECT permission FROM user_permissions WHERE permission GLOB 'w*' ORDER BY permission");
        let held: Vec<_> = held.lines().collect();
        assert!(held.len().is_multiple_of(2), "a batch is there by half");
        assert!(held.chunks(2).all(|pair| pair[0].split_once(':').unwrap().0 == pair[1].split_once(':').unwrap().0));
    }
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    let last = cluster.backup("last.db");
    assert!(number(&last, "SELECT count(*) FROM user_permissions WHERE permission GLOB 'w*'") > 0);
}
