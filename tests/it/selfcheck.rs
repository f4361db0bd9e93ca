//! The self-check on a real replica: silent while permissions change in every way that the log tells of, and not silent
//! where somebody got past the log.

use reqwest::Method;
use serde_json::json;

use crate::client::{Client, send};
use crate::company::company;
use crate::harness::{Cluster, until};
use crate::socket::Socket;

const KINDS: [&str; 4] = ["user", "role", "access", "connection"];

/// A counter of the self-check, by what it looked at.
async fn count(client: &Client, name: &str, what: &str) -> u64 {
    let text = client.get("/metrics").await.ok().body.as_str().unwrap().to_owned();
    let series = format!("{name}{{what=\"{what}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or_else(|| panic!("{series} in {text}"));
    line.parse().unwrap()
}

async fn mismatches(client: &Client) -> Vec<u64> {
    let mut counts = Vec::new();
    for what in KINDS {
        counts.push(count(client, "permcast_audit_mismatches_total", what).await);
    }
    counts
}

/// Every kind was looked at again this many times.
async fn looked_at(client: &Client, times: u64) {
    for what in KINDS {
        let before = count(client, "permcast_audit_checked_total", what).await;
        until(&format!("a look at a {what}"), async || {
            (count(client, "permcast_audit_checked_total", what).await >= before + times).then_some(())
        })
        .await;
    }
}

/// Asks replica b about ben and cleo, so that it holds them.
async fn ask(vera: &Client) {
    for id in ["ben", "cleo"] {
        let question = json!({
            "subject": {"type": "user", "id": id}, "resource": {"type": "invoices"}, "action": {"name": "read"},
        });
        vera.post("/access/v1/evaluation", question).await.ok();
    }
}

#[tokio::test]
async fn it_is_silent_while_the_log_tells_of_all_changes() {
    let cluster = Cluster::start_with(&[("PERMCAST_AUDIT_RATE", "500")]).await;
    let (root, _) = company(&cluster).await;
    let client = cluster.b.client();
    let vera = client.with(&client.login("vera").await);
    let mut tokens = client.login("ben").await;
    let mut socket = Socket::hello(&client, &tokens).await;
    ask(&vera).await;
    looked_at(&client, 3).await;

    let grant = "/v1/tenants/default/users/ben/permissions/reports:read";
    let steps: [(Method, &str); 6] = [
        (Method::PUT, grant),
        (Method::PUT, "/v1/tenants/default/roles/viewer/permissions/reports:list"),
        (Method::DELETE, grant),
        (Method::DELETE, "/v1/tenants/default/roles/editor/includes/viewer"),
        (Method::DELETE, "/v1/tenants/default/roles/viewer"),
        (Method::DELETE, "/v1/tenants/default/users/ben/roles/editor"),
    ];
    for (method, path) in steps {
        send(root.request(method, path)).await.ok();
        ask(&vera).await;
        if socket_was_told(&mut socket, path).await {
            // The first refresh may come before the token is old enough to be rotated: it answers itself.
            tokens = client.refresh(&tokens).await;
            socket.say(json!({"type": "refresh", "token": tokens.access})).await;
            socket.expect("refreshed").await;
        }
        ask(&vera).await;
        looked_at(&client, 2).await;
    }
    assert_eq!(mismatches(&client).await, [0; 4]);
    assert_eq!(mismatches(&cluster.a.client()).await, [0; 4]);
}

/// Ben's connection hears of all but the end of a role that he has not any more.
async fn socket_was_told(socket: &mut Socket, path: &str) -> bool {
    let touches_ben = path != "/v1/tenants/default/roles/viewer";
    if touches_ben {
        socket.expect("permissions_changed").await;
    }
    touches_ben
}

#[tokio::test]
async fn it_finds_what_got_past_the_log() {
    let cluster = Cluster::start_with(&[("PERMCAST_AUDIT_RATE", "500")]).await;
    company(&cluster).await;
    let client = cluster.b.client();
    let vera = client.with(&client.login("vera").await);
    let _socket = Socket::hello(&client, &client.login("ben").await).await;
    ask(&vera).await;
    looked_at(&client, 3).await;
    assert_eq!(mismatches(&client).await, [0; 4]);

    cluster
        .sql("DROP TRIGGER role_permissions_deleted; DELETE FROM role_permissions WHERE permission = 'invoices:read'");
    let found = async |what: &str| {
        until(&format!("a mismatch of a {what}"), async || {
            (count(&client, "permcast_audit_mismatches_total", what).await > 0).then_some(())
        })
        .await;
    };
    found("role").await;
    found("access").await;
    // What was found wrong was forgotten, and is read anew.
    ask(&vera).await;
    let before = count(&client, "permcast_audit_mismatches_total", "access").await;
    cluster.sql(
        "DROP TRIGGER user_roles_deleted; DELETE FROM user_roles WHERE user = (SELECT no FROM users WHERE id = 'ben')",
    );
    found("connection").await;
    // Whichever of the two is looked at first: with either both are forgotten.
    until("a mismatch of ben's own part", async || {
        let [user, _, access, _] = mismatches(&client).await[..] else { panic!("four kinds") };
        (user + access > before).then_some(())
    })
    .await;
}
