//! A replica that is stopped for longer than the bound, as by a sleeping laptop, and goes on.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::client::{Answer, send};
use crate::harness::{Cluster, soon};
use crate::socket::{Next, Socket};
use crate::witness::Witness;

/// Ben loses his role and max his session while `b` is stopped for longer than the bound, which is a second of anybody's
/// time. What `while_stopped` begins is what `b` finds when it goes on.
async fn stopped<T>(cluster: &Cluster, witness: &Witness, ended: &str, waiting: impl Future<Output = T>) -> T {
    cluster.b.signal("-STOP");
    let root = &witness.root;
    root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    root.patch(&format!("/v1/tenants/default/users/{ended}"), json!({"status": "suspended"})).await.version();
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let (answer, ()) = tokio::join!(waiting, async {
        // Now that it lies in the socket's buffer.
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.b.signal("-CONT");
    });
    answer
}

#[tokio::test]
async fn its_first_answers_are_from_nothing_that_it_knew() {
    let cluster = Cluster::start().await;
    let witness = Witness::new(&cluster).await;
    let on_b = &witness.on_b;
    let vera = on_b.with(&on_b.login("vera").await);
    let (ben, max_tokens) = (witness.ben(), on_b.login("max").await);
    let max = on_b.with(&max_tokens);
    let about = |id: &str| json!({"subject": {"type": "user", "id": id}, "resource": {"type": "invoices"}, "action": {"name": "write"}});
    // All of it is in memory.
    assert_eq!(vera.post("/access/v1/evaluation", about("ben")).await.ok().body["decision"], true);
    let of_max = [("token", max_tokens.access.as_str())];
    let introspected = vera.form("/oauth/introspect", &of_max).await.ok();
    assert_eq!(introspected.body["active"], true);

    let waiting = async {
        tokio::join!(
            ben.get("/v1/me"),
            ben.get("/v1/forward-auth?require=invoices:write"),
            ben.post("/access/v1/evaluation", about("ben")),
            vera.post("/access/v1/evaluation", about("ben")),
            vera.form("/oauth/introspect", &of_max),
            max.get("/v1/me"),
            on_b.try_refresh(&max_tokens.refresh),
            send(ben.request(Method::GET, "/v1/me/freshness")),
        )
    };
    let (me, forward, own, asked, introspected, ended, refreshed, freshness) =
        Box::pin(stopped(&cluster, &witness, "max", waiting)).await;
    let refused = |answer: &Answer| matches!(answer.status.as_u16(), 401 | 503);
    for answer in [&me, &forward, &own, &ended] {
        assert!(refused(answer), "{answer:?}");
    }
    assert!(refused(&asked) || asked.body["decision"] == false, "{asked:?}");
    assert!(refused(&introspected) || introspected.body["active"] == false, "{introspected:?}");
    assert!(matches!(refreshed.status.as_u16(), 400 | 503), "{refreshed:?}");
    // It decides nothing, and may say what is known here.
    assert!(refused(&freshness) || freshness.status == 200, "{freshness:?}");
}

/// The end of a connection or what tells that its token is stale.
async fn learns(socket: &mut Socket) -> Next {
    loop {
        match socket.next().await {
            Next::Message(message) if message["type"] == "welcome" => {}
            next => return next,
        }
    }
}

#[tokio::test]
async fn connections_learn_of_what_they_missed() {
    let cluster = Cluster::start().await;
    let mut witness = Witness::new(&cluster).await;
    let on_b = witness.on_b.clone();
    let (ben, max) = (witness.tokens.clone(), on_b.login("max").await);
    let mut old = Socket::hello(&on_b, &max).await;
    let hello = async |tokens| {
        let mut socket = Socket::open(&on_b).await;
        socket.say(json!({"type": "hello", "token": tokens})).await;
        learns(&mut socket).await
    };
    let events = async {
        let mut response = on_b.with(&ben).request(Method::GET, "/v1/events").send().await.unwrap();
        let mut text = String::new();
        let told = async {
            while !text.contains("permissions_changed") {
                text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
            }
        };
        soon("an event", told).await;
    };
    let waiting = async { tokio::join!(hello(&ben.access), hello(&max.access), events) };
    let (stale, over, ()) = Box::pin(stopped(&cluster, &witness, "max", waiting)).await;
    assert!(matches!(&stale, Next::Message(message) if message["type"] == "permissions_changed"), "{stale:?}");
    let revoked = |next: &Next| match next {
        Next::Message(message) => message["type"] == "session_revoked",
        Next::Closed(code) => *code == 4403,
    };
    assert!(revoked(&over), "{over:?}");
    // And those who were there before.
    witness.socket.expect("permissions_changed").await;
    assert_eq!(old.expect("session_revoked").await["reason"], "suspended");
    old.expect_close(4403).await;
    witness.refresh().await;
}
