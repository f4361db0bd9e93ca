//! Killed processes, and settings that cannot be.

use std::process::Command;

use crate::company::company;
use crate::harness::Cluster;

#[tokio::test]
async fn an_acknowledged_change_survives_the_death_of_its_replica() {
    let mut cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let version = root.put("/v1/tenants/default/users/ben/permissions/x").await.version();
    cluster.a.signal("-KILL");
    cluster.a.exited().await;
    let on_b = cluster.b.client();
    let ben = on_b.with(&on_b.login("ben").await);
    let me =
        crate::client::send(ben.request(reqwest::Method::GET, "/v1/me").header("Permcast-At-Least", version)).await;
    let permissions = me.ok().body["permissions"].to_string();
    assert!(permissions.contains("\"x\""), "{permissions}");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let cluster = Cluster::without_broker().await;
    let folder = cluster.directory.path();
    let refused = |settings: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_permcast"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .current_dir(folder)
            .envs(settings.iter().copied())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let url = format!("sqlite://{}", folder.join("permcast.db").display());
    let database = ("PERMCAST_DATABASE_URL", url.as_str());
    assert!(refused(&[database, ("PERMCAST_ISSUER", "https://elsewhere.example")]).contains("issuer"));
    let both = refused(&[database, ("PERMCAST_ON_STALE", "panic"), ("PERMCAST_POLL_INTERVAL", "soon")]);
    assert!(both.contains("on_stale") && both.contains("poll_interval"), "{both}");
    std::fs::write(folder.join("text.db"), "this is no database, whatever its name says".repeat(100)).unwrap();
    let other = format!("sqlite://{}", folder.join("text.db").display());
    assert!(!refused(&[("PERMCAST_DATABASE_URL", other.as_str())]).is_empty());
}
