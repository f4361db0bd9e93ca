use std::time::Duration;

use super::*;
use crate::domain::floors::Freshness;
use crate::domain::operation::{NewLockdown, NewTenant, Operation, TenantPatch, UserPatch};
use crate::domain::permission::OPERATOR;
use crate::domain::records::Status;
use crate::token::bench::{Bench, REFRESH_TTL, Wishes, client, login};
use crate::token::{PasswordSettings, Rate};

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.user("ben", UserKind::Person, &["invoices:read"]).await;
    bench
}

fn grace() -> Duration {
    Duration::from_secs(10)
}

fn is_over(answer: &Result<Issued, SessionError>) -> bool {
    matches!(answer, Err(SessionError::InvalidGrant(_)))
}

async fn is_live(bench: &Bench, session: &SessionId) -> bool {
    bench.store.load_session(session).await.unwrap().value.is_some()
}

fn patch(user: &str, patch: UserPatch) -> Operation {
    Operation::PatchUser { tenant: TenantName::first(), user: user.parse().unwrap(), patch }
}

#[tokio::test]
async fn a_user_signs_in_by_id_or_email_in_any_case() {
    let bench = bench().await;
    for user in ["ben", "ben@example.test", "BEN@Example.test"] {
        let login = Login { user: user.into(), ..login("ben") };
        let issued = bench.sessions.sign_in(login, &client()).await.unwrap();
        let verified = bench.verifier.verify(&issued.access.token).unwrap();
        assert_eq!((verified.claims.user.as_str(), verified.claims.session()), ("ben", Some(&issued.session)));
        assert!(bench.feed.floors.is_fresh(&verified.basis));
    }
    let sessions = bench.store.sessions(&TenantName::first(), &"ben".parse().unwrap(), None, 10).await.unwrap().items;
    assert_eq!(sessions.len(), 3);
    assert_eq!((&*sessions[0].address, &*sessions[0].user_agent), ("192.0.2.1", "bench"));
}

#[tokio::test]
async fn wrong_unknown_and_suspended_are_all_the_same_and_cost_the_same() {
    let bench = bench().await;
    bench.user("gone", UserKind::Person, &[]).await;
    bench.does([patch("gone", UserPatch { status: Some(Status::Suspended), ..UserPatch::default() })]).await;
    bench.user("bare", UserKind::Person, &[]).await;
    bench.does([patch("bare", UserPatch { password: Some(None), ..UserPatch::default() })]).await;
    bench.user("robot", UserKind::Service, &[]).await;
    let (secret, hash) = bench.passwords.generate_secret();
    bench.does([patch("robot", UserPatch { password: Some(Some(hash)), ..UserPatch::default() })]).await;
    for refused in [
        Login { password: "wrong".into(), ..login("ben") },
        login("nobody"),
        login("gone"),
        login("bare"),
        Login { password: secret, ..login("robot") },
        Login { tenant: "no-such".into(), ..login("ben") },
        Login { tenant: "NO TENANT".into(), ..login("ben") },
        Login { user: "no user\u{0}".into(), ..login("ben") },
        Login { user: "u".repeat(10_000), ..login("ben") },
        Login { user: String::new(), password: String::new(), ..login("ben") },
    ] {
        let before = bench.passwords.runs();
        let what = format!("{refused:?}");
        let answer = bench.sessions.sign_in(refused, &client()).await;
        assert!(matches!(answer, Err(SessionError::Refused)), "{what}");
        assert_eq!(bench.passwords.runs(), before + 1, "{what}");
    }
}

#[tokio::test]
async fn a_hash_of_former_parameters_is_renewed_at_sign_in() {
    let bench = bench().await;
    let former = PasswordSettings { memory_kib: 16, iterations: 3, ..PasswordSettings::default() };
    let former = Passwords::new(former, Arc::new(crate::runtime::SystemRandom)).unwrap();
    let hash = former.hash("secret of ben".into()).await.unwrap();
    bench.does([patch("ben", UserPatch { password: Some(Some(hash.clone())), ..UserPatch::default() })]).await;
    let stored = async || {
        let found = bench.store.credentials(&TenantName::first(), "ben").await.unwrap();
        found.unwrap().password.unwrap()
    };

    let wrong = Login { password: "wrong".into(), ..login("ben") };
    bench.sessions.sign_in(wrong, &client()).await.unwrap_err();
    assert_eq!(stored().await, hash, "not for one who does not know it");
    let first = bench.sessions.sign_in(login("ben"), &client()).await.unwrap();
    let renewed = stored().await;
    assert!(renewed != hash && !bench.passwords.is_outdated(&renewed));
    let second = bench.sessions.sign_in(login("ben"), &client()).await.unwrap();
    assert_eq!(stored().await, renewed, "once");
    assert!(is_live(&bench, &first.session).await && is_live(&bench, &second.session).await);
}

#[tokio::test]
async fn a_refused_sign_in_writes_nothing() {
    let bench = bench().await;
    let before = bench.store.tail(crate::domain::Seq::ZERO).await.unwrap();
    let _ = bench.sessions.sign_in(Login { password: "wrong".into(), ..login("ben") }, &client()).await;
    assert_eq!(bench.store.tail(crate::domain::Seq::ZERO).await.unwrap(), before);
    let sessions = bench.store.sessions(&TenantName::first(), &"ben".parse().unwrap(), None, 10).await.unwrap();
    assert!(sessions.items.is_empty());
}

#[tokio::test]
async fn guessing_is_slowed_and_the_right_password_gets_in_afterwards() {
    let rate = |burst, secs| Rate { burst, every: Duration::from_secs(secs) };
    let limits = GuessLimits { pair: rate(3, 10), account: rate(100, 1), address: rate(100, 1), entries_max: 100 };
    let bench = Bench::with(Wishes { limits, ..Wishes::default() }).await;
    bench.user("ben", UserKind::Person, &[]).await;
    for _ in 0..3 {
        let wrong = Login { password: "wrong".into(), ..login("ben") };
        assert!(matches!(bench.sessions.sign_in(wrong, &client()).await, Err(SessionError::Refused)));
    }
    let runs = bench.passwords.runs();
    let Err(SessionError::TooMany { retry_after }) = bench.sign_in("ben").await else { panic!("it is let in") };
    assert_eq!(bench.passwords.runs(), runs, "no work is done for it");
    let elsewhere = Client { address: "198.51.100.1".parse().unwrap(), ..client() };
    assert!(bench.sessions.sign_in(login("ben"), &elsewhere).await.is_ok());
    bench.clock.pass(retry_after);
    assert!(bench.sign_in("ben").await.is_ok());
    for _ in 0..3 {
        let wrong = Login { password: "wrong".into(), ..login("ben") };
        let answer = bench.sessions.sign_in(wrong, &client()).await;
        assert!(matches!(answer, Err(SessionError::Refused)), "what was before the success is forgiven");
    }
}

#[tokio::test]
async fn a_refresh_token_is_not_rotated_while_it_is_new() {
    let bench = bench().await;
    let issued = bench.sign_in("ben").await.unwrap();
    let first = issued.refresh_token.clone().unwrap();
    for _ in 0..3 {
        let again = bench.refresh(&first).await.unwrap();
        assert_eq!(again.refresh_token, issued.refresh_token);
        assert_eq!(again.session, issued.session);
    }
    bench.clock.pass(grace());
    assert_ne!(bench.refresh(&first).await.unwrap().refresh_token, issued.refresh_token);
}

#[tokio::test]
async fn all_tabs_get_the_same_successor_on_every_replica_and_none_is_thrown_out() {
    let bench = bench().await;
    let sibling = bench.sibling().await;
    let first = bench.sign_in("ben").await.unwrap().refresh_token.unwrap();
    bench.clock.pass(grace());
    let second = bench.refresh(&first).await.unwrap().refresh_token.unwrap();
    assert_ne!(second, first);
    bench.clock.pass(grace() / 2);
    assert_eq!(sibling.refresh(&first).await.unwrap().refresh_token, Some(second.clone()));
    assert_eq!(sibling.refresh(&second).await.unwrap().refresh_token, Some(second.clone()));
    bench.clock.pass(grace() / 2);
    let third = sibling.refresh(&second).await.unwrap().refresh_token.unwrap();
    assert_ne!(third, second);
}

#[tokio::test]
async fn a_used_token_after_its_grace_is_theft_and_ends_the_session() {
    let bench = bench().await;
    let issued = bench.sign_in("ben").await.unwrap();
    let first = issued.refresh_token.unwrap();
    bench.clock.pass(grace());
    let rotated = bench.refresh(&first).await.unwrap();
    bench.clock.pass(grace());
    assert!(is_over(&bench.refresh(&first).await));
    assert!(!is_live(&bench, &issued.session).await);
    assert!(is_over(&bench.refresh(&rotated.refresh_token.unwrap()).await));
    let verified = bench.verifier.verify(&rotated.access.token).unwrap();
    assert!(matches!(bench.feed.floors.freshness(&verified.basis), Freshness::Ended { .. }));
    let log = bench.store.tail(crate::domain::Seq::ZERO).await.unwrap().changes;
    assert_eq!(log.last().unwrap().effect, Effect::RefreshReuse);
}

#[tokio::test]
async fn garbage_that_names_a_session_does_not_end_it() {
    let bench = bench().await;
    let issued = bench.sign_in("ben").await.unwrap();
    let good = issued.refresh_token.unwrap();
    let mut garbage = good.0.clone().into_bytes();
    garbage[40] = if garbage[40] == b'A' { b'B' } else { b'A' };
    for token in [String::from_utf8(garbage).unwrap(), format!("{}{}", &good.0[..22], "A".repeat(64)), String::new()] {
        assert!(is_over(&bench.refresh(&Secret(token)).await));
    }
    assert!(is_live(&bench, &issued.session).await);
    assert!(bench.refresh(&good).await.is_ok());
}

#[tokio::test]
async fn what_ends_a_session_ends_its_refresh_token() {
    let ends: [(&str, Operation); 5] = [
        ("suspension", patch("ben", UserPatch { status: Some(Status::Suspended), ..UserPatch::default() })),
        ("deletion", Operation::DeleteUser { tenant: TenantName::first(), user: "ben".parse().unwrap() }),
        ("sign-out", Operation::EndSessions { tenant: TenantName::first(), user: "ben".parse().unwrap() }),
        ("password", patch("ben", UserPatch { password: Some(None), ..UserPatch::default() })),
        (
            "tenant",
            Operation::PatchTenant {
                tenant: TenantName::first(),
                patch: TenantPatch { status: Some(Status::Suspended), ..TenantPatch::default() },
            },
        ),
    ];
    for (what, end) in ends {
        let bench = bench().await;
        let issued = bench.sign_in("ben").await.unwrap();
        bench.does([end]).await;
        assert!(is_over(&bench.refresh(&issued.refresh_token.unwrap()).await), "{what}");
        let verified = bench.verifier.verify(&issued.access.token).unwrap();
        assert!(matches!(bench.feed.floors.freshness(&verified.basis), Freshness::Ended { .. }), "{what}");
    }
    let bench = bench().await;
    let issued = bench.sign_in("ben").await.unwrap();
    bench.clock.pass(REFRESH_TTL);
    assert!(is_over(&bench.refresh(&issued.refresh_token.unwrap()).await), "its time");
    let issued = bench.sign_in("ben").await.unwrap();
    bench.sessions.end(&issued.session, &Origin::default()).await.unwrap();
    assert!(is_over(&bench.refresh(&issued.refresh_token.unwrap()).await), "by himself");
    assert!(bench.sessions.end(&issued.session, &Origin::default()).await.unwrap().changes.is_empty(), "and only once");
}

#[tokio::test]
async fn a_change_of_permissions_ends_nothing_and_is_in_the_next_token() {
    let bench = bench().await;
    let issued = bench.sign_in("ben").await.unwrap();
    let written = bench.grant("ben", "invoices:delete", None).await;
    let next = bench.refresh(&issued.refresh_token.unwrap()).await.unwrap();
    let verified = bench.verifier.verify(&next.access.token).unwrap();
    assert!(verified.access.as_ref().unwrap().permissions.allows(&"invoices:delete".parse().unwrap()));
    assert_eq!(verified.claims.version, written.version);
    assert!(bench.feed.floors.is_fresh(&verified.basis));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_never_older_than_was_asked_for() {
    let bench = bench().await;
    let from = Origin::default();
    let refresh = bench.sign_in("ben").await.unwrap().refresh_token.unwrap();
    bench.feed.hold();
    let asked = bench.grant("ben", "invoices:delete", None).await.version;
    let (answer, ()) = tokio::join!(bench.sessions.refresh(&refresh.0, Some(asked), &from), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        bench.feed.release();
    });
    assert_eq!(answer.unwrap().access.version, asked);
    bench.feed.hold();
    let ahead = bench.grant("ben", "invoices:pay", None).await.version;
    assert!(matches!(bench.sessions.refresh(&refresh.0, Some(ahead), &from).await, Err(SessionError::Behind)));
    let without = bench.refresh(&refresh).await.unwrap();
    assert_eq!(without.access.version, asked, "what it rests on is what is applied here");
}

#[tokio::test(start_paused = true)]
async fn a_user_whom_this_replica_does_not_know_yet_is_waited_for() {
    let bench = bench().await;
    let cleo = "cleo".parse().unwrap();
    assert!(bench.sessions.access(&TenantName::first(), &cleo).await.unwrap().is_none(), "and that is kept");
    bench.feed.hold();
    bench.user("cleo", UserKind::Person, &[]).await;
    let (answer, ()) = tokio::join!(bench.sign_in("cleo"), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.feed.release();
    });
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test]
async fn a_lockdown_lets_operators_in_alone_and_speaks_only_to_the_right_password() {
    let bench = bench().await;
    bench.user("ada", UserKind::Person, &[OPERATOR]).await;
    let refresh = bench.sign_in("ben").await.unwrap().refresh_token.unwrap();
    let operators = bench.sign_in("ada").await.unwrap().refresh_token.unwrap();
    bench.clock.pass(grace());
    let lock = |tenant: Option<&str>| {
        let tenant = tenant.map(|tenant| tenant.parse().unwrap());
        Operation::SetLockdown(Some(NewLockdown { tenant, retry_after_s: 77, until: None }))
    };
    bench.does([lock(None)]).await;
    assert!(matches!(bench.sign_in("ben").await, Err(SessionError::Locked { retry_after_s: 77 })));
    let wrong = Login { password: "wrong".into(), ..login("ben") };
    assert!(matches!(bench.sessions.sign_in(wrong, &client()).await, Err(SessionError::Refused)));
    assert!(matches!(bench.refresh(&refresh).await, Err(SessionError::Locked { retry_after_s: 77 })));
    assert!(bench.sign_in("ada").await.is_ok());
    assert!(bench.refresh(&operators).await.is_ok());
    bench.clock.pass(Duration::from_hours(1));
    bench.does([Operation::SetLockdown(None)]).await;
    assert!(bench.refresh(&refresh).await.is_ok(), "it was not used up by what was refused");
    bench.does([lock(Some("default"))]).await;
    assert!(matches!(bench.sign_in("ben").await, Err(SessionError::Locked { .. })));
    let other = NewTenant { name: "other".parse().unwrap(), description: String::new(), status: Status::Active };
    bench.does([Operation::CreateTenant(other), lock(Some("other"))]).await;
    assert!(bench.sign_in("ben").await.is_ok());
}

#[tokio::test]
async fn a_service_account_gets_a_token_and_nothing_to_refresh_it_with() {
    let bench = bench().await;
    bench.user("robot", UserKind::Service, &["invoices:read"]).await;
    let issued = bench.sessions.client_credentials(login("robot"), &client()).await.unwrap();
    assert!(issued.refresh_token.is_none());
    let claims = &bench.verifier.verify(&issued.access.token).unwrap().claims;
    assert_eq!((claims.client_id.as_str(), claims.user.as_str()), ("robot", "robot"));
    let (secret, hash) = bench.passwords.generate_secret();
    bench.does([patch("robot", UserPatch { password: Some(Some(hash)), ..UserPatch::default() })]).await;
    let runs = bench.passwords.runs();
    assert!(bench.sessions.client_credentials(Login { password: secret, ..login("robot") }, &client()).await.is_ok());
    assert_eq!(bench.passwords.runs(), runs);
    let person = bench.sessions.client_credentials(login("ben"), &client()).await;
    assert!(matches!(person, Err(SessionError::Refused)));
}

#[tokio::test]
async fn nothing_secret_is_shown_by_accident() {
    let bench = bench().await;
    let issued = bench.sign_in("ben").await.unwrap();
    let shown = format!("{issued:?} {:?} {:?}", login("ben"), bench.keys);
    for secret in [&issued.access.token, &issued.refresh_token.unwrap().0, "secret of"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
