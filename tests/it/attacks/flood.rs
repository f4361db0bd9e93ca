//! A flood of sign-ins: it is turned away early, and decisions go on beside it.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::json;

use super::Scene;
use crate::client::send;

/// Far more than wait for a hash at once.
const FLOOD: usize = 240;

#[tokio::test]
async fn a_flood_of_sign_ins_starves_no_decision() {
    let scene = Scene::start_with(&[("PERMCAST_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let client = scene.cluster.a.client();
    let ben = client.with(&client.login("ben").await);
    let (done, decided) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // From as many addresses at as many accounts, so that no limit on guessing is in their way.
    let flood = join_all((0..FLOOD).map(|n| {
        let (client, done) = (client.clone(), &done);
        async move {
            let body = json!({"username": format!("nobody{n}"), "password": "wrong"});
            let request = client.request(reqwest::Method::POST, "/v1/login");
            let answer =
                send(request.header("X-Forwarded-For", format!("203.0.{}.{}", n / 200, n % 200)).json(&body)).await;
            done.fetch_add(1, Ordering::Relaxed);
            answer
        }
    }));
    let decisions = async {
        while done.load(Ordering::Relaxed) < FLOOD {
            ben.get("/v1/forward-auth?require=invoices:read").await.ok();
            decided.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (answers, ()) = futures_util::join!(flood, decisions);
    let of = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(of(401) + of(503), FLOOD, "{answers:?}");
    // The queue has room for 66: the first of them, and whoever found a place that became free.
    assert!(of(503) > 0 && of(401) >= 66, "{} were turned away, {} looked at", of(503), of(401));
    for away in answers.iter().filter(|answer| answer.status == 503) {
        away.problem(503, "unavailable");
        assert!(away.header("retry-after").parse::<u32>().unwrap() > 0, "{away:?}");
    }
    // One who waits for a hash waits behind up to 64 others; a decision waits behind none.
    let decided = decided.load(Ordering::Relaxed);
    assert!(decided > of(401) / 2, "{decided} decisions beside {} hashes", of(401));
    scene.is_as_it_was().await;
}
