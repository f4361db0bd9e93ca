//! Sessions: opened, refreshed, ended.

use std::time::Duration;

use crate::domain::operation::{Operation, UserPatch};
use crate::domain::records::Status;
use crate::domain::rules::Refusal;
use crate::domain::{Actor, Effect, Origin, SessionId};
use crate::store::{NewSession, Rotation};

use super::bench::{Bench, GRACE, SESSION_LIFE, digest, password};
use super::company::company;
use super::words::{
    add_tenant, add_user, delete_tenant, delete_user, patch_user, set_status, set_tenant_status, sign_out,
    sign_out_tenant, suspend, tenant, user, within,
};

const ONE_MS: Duration = Duration::from_millis(1);

pub(crate) async fn a_session_is_opened_for_who_may(bench: Bench) {
    company(&bench).await;
    let new = NewSession { password: Some(password("ben")), ..bench.new_session("default", "ben", 1) };
    let live = bench.store.open_session(new.clone()).await.unwrap().unwrap();
    assert_eq!((&live.id, &live.tenant, &live.user), (&new.id, &new.tenant, &new.user));
    assert_eq!(live.expires_at, new.ends_at);
    assert_eq!(bench.store.load_session(&new.id).await.unwrap().value, Some(live));

    let open = async |new: NewSession| {
        let opened = bench.store.open_session(new.clone()).await.unwrap();
        assert_eq!(opened, bench.store.load_session(&new.id).await.unwrap().value);
        opened.is_some()
    };
    let other = bench.new_session("default", "ben", 1);
    assert!(!open(NewSession { password: Some(password("old")), ..other }).await, "another password by now");
    assert!(!open(bench.new_session("default", "nobody", 1)).await);
    assert!(!open(bench.new_session("nowhere", "ben", 1)).await);
    bench.does([suspend("ben"), set_tenant_status("acme", Status::Suspended)]).await;
    assert!(!open(bench.new_session("default", "ben", 1)).await);
    assert!(!open(bench.new_session("acme", "zoe", 1)).await);
    assert_eq!(bench.store.load_session(&SessionId::from_random([9; 16])).await.unwrap().value, None);
}

pub(crate) async fn a_session_is_over_when_its_time_is_up(bench: Bench) {
    company(&bench).await;
    let session = bench.session("ben").await;
    bench.pass(SESSION_LIFE.checked_sub(ONE_MS).unwrap());
    assert!(bench.is_live(&session).await);
    bench.pass(ONE_MS);
    assert!(!bench.is_live(&session).await);
    assert_eq!(bench.store.rotate(&session, &digest(1), &digest(2), &Origin::default()).await.unwrap(), Rotation::Over);
}

pub(crate) async fn a_refresh_token_rotates_when_it_is_old_enough(bench: Bench) {
    company(&bench).await;
    let id = bench.session("ben").await;
    let rotate = async |presented, successor| {
        bench.store.rotate(&id, &digest(presented), &digest(successor), &Origin::default()).await.unwrap()
    };
    let live = bench.store.load_session(&id).await.unwrap().value.unwrap();
    assert_eq!(rotate(1, 2).await, Rotation::Kept(live.clone()), "it is new: it answers itself");
    bench.pass(GRACE.checked_sub(ONE_MS).unwrap());
    assert_eq!(rotate(1, 2).await, Rotation::Kept(live.clone()));
    bench.pass(ONE_MS);
    assert_eq!(rotate(1, 2).await, Rotation::Rotated(live.clone()));

    assert_eq!(rotate(1, 2).await, Rotation::Succeeded(live.clone()), "another tab, at once");
    assert_eq!(rotate(2, 3).await, Rotation::Kept(live.clone()));
    bench.pass(GRACE.checked_sub(ONE_MS).unwrap());
    assert_eq!(rotate(1, 2).await, Rotation::Succeeded(live.clone()), "another tab, just in time");
    assert_eq!(rotate(2, 3).await, Rotation::Kept(live.clone()));
    bench.pass(ONE_MS);
    assert_eq!(rotate(2, 3).await, Rotation::Rotated(live.clone()));
    assert_eq!(rotate(2, 3).await, Rotation::Succeeded(live.clone()));
    assert!(bench.is_live(&id).await);
}

pub(crate) async fn a_used_refresh_token_is_theft(bench: Bench) {
    company(&bench).await;
    for rotations in 1..=3_u8 {
        let id = bench.session("ben").await;
        for n in 1..=rotations {
            bench.pass(GRACE);
            let rotation = bench.store.rotate(&id, &digest(n), &digest(n + 1), &Origin::default()).await.unwrap();
            assert!(matches!(rotation, Rotation::Rotated(_)), "{rotation:?}");
        }
        bench.pass(GRACE);
        let (head, told) = (bench.head().await, bench.told().len());
        let rotation = bench.store.rotate(&id, &digest(1), &digest(9), &Origin::default()).await.unwrap();
        assert!(matches!(&rotation, Rotation::Reused(live) if live.id == id), "{rotation:?}");
        let page = bench.store.tail(head).await.unwrap();
        assert_eq!(page.changes, bench.told()[told..]);
        let [change] = &page.changes[..] else { panic!("{page:?}") };
        assert_eq!((change.target.name(), change.effect), (id.as_str(), Effect::RefreshReuse));
        assert!(!bench.is_live(&id).await);
        let current = bench.store.rotate(&id, &digest(rotations + 1), &digest(9), &Origin::default()).await.unwrap();
        assert_eq!(current, Rotation::Over, "the thief's and the owner's are both over");
        assert_eq!(bench.head().await, page.head);
    }
}

pub(crate) async fn no_session_is_no_rotation(bench: Bench) {
    company(&bench).await;
    let unknown = SessionId::from_random([9; 16]);
    assert_eq!(
        bench.store.rotate(&unknown, &digest(1), &digest(2), &Origin::default()).await.unwrap(),
        Rotation::Unknown
    );
    let id = bench.session("ben").await;
    bench.pass(GRACE);
    bench.end(&id, Effect::SignedOut).await;
    assert_eq!(bench.store.rotate(&id, &digest(1), &digest(2), &Origin::default()).await.unwrap(), Rotation::Over);
    for end in [sign_out("ben"), suspend("ben")] {
        let id = bench.session("ben").await;
        bench.pass(GRACE);
        bench.does([end]).await;
        assert_eq!(bench.store.rotate(&id, &digest(1), &digest(2), &Origin::default()).await.unwrap(), Rotation::Over);
    }
}

pub(crate) async fn a_session_without_a_refresh_token_has_none(bench: Bench) {
    company(&bench).await;
    let new = NewSession { refresh: None, ..bench.new_session("default", "ben", 1) };
    let id = bench.store.open_session(new).await.unwrap().unwrap().id;
    bench.pass(GRACE);
    let rotation = bench.store.rotate(&id, &digest(1), &digest(2), &Origin::default()).await.unwrap();
    assert!(matches!(rotation, Rotation::Unknown | Rotation::Over | Rotation::Reused(_)), "{rotation:?}");
}

pub(crate) async fn a_session_ends_once(bench: Bench) {
    company(&bench).await;
    let id = bench.session("ben").await;
    assert_eq!(bench.end(&id, Effect::SignedOut).await, [format!("session default/{id} signed_out")]);
    assert!(!bench.is_live(&id).await);
    assert!(bench.end(&id, Effect::SignedOut).await.is_empty());
    assert!(bench.end(&SessionId::from_random([9; 16]), Effect::SignedOut).await.is_empty());
    let over = bench.session("ben").await;
    bench.does([sign_out("ben")]).await;
    assert!(bench.end(&over, Effect::SignedOut).await.is_empty(), "it was over with all of them");
}

pub(crate) async fn an_administrator_ends_one_session(bench: Bench) {
    company(&bench).await;
    let max = bench.actor("default", "max").await;
    let (one, other, foreign) = (bench.session("ben").await, bench.session("ben").await, bench.session("cleo").await);
    let end = |session: &SessionId| Operation::EndSession {
        tenant: tenant("default"),
        user: user("ben"),
        session: session.clone(),
    };
    let written = bench.does_as(&max, [end(&one)]).await;
    assert_eq!(super::bench::rows(&written), [format!("session default/{one} signed_out")]);
    assert!(!bench.is_live(&one).await && bench.is_live(&other).await);
    assert!(bench.does_as(&max, [end(&one)]).await.changes.is_empty());
    let unknown = |session: &SessionId| Refusal::UnknownSession(session.to_string());
    assert_eq!(bench.refused_as(&max, end(&foreign)).await, unknown(&foreign));
    let nothing = SessionId::from_random([9; 16]);
    assert_eq!(bench.refused_as(&max, end(&nothing)).await, unknown(&nothing));
}

pub(crate) async fn signing_out_is_one_row_and_ends_all(bench: Bench) {
    company(&bench).await;
    let (one, other, cleos) = (bench.session("ben").await, bench.session("ben").await, bench.session("cleo").await);
    assert_eq!(bench.rows(sign_out("ben")).await, ["user default/ben signed_out"]);
    assert!(!bench.is_live(&one).await && !bench.is_live(&other).await && bench.is_live(&cleos).await);
    let later = bench.session("ben").await;
    assert!(bench.is_live(&later).await, "one that was opened after it is none of those");
}

pub(crate) async fn signing_out_a_tenant_is_one_row_and_ends_all_in_it(bench: Bench) {
    company(&bench).await;
    let (zoe, ben) = (bench.session_in("acme", "zoe").await, bench.session("ben").await);
    assert_eq!(bench.rows(sign_out_tenant("acme")).await, ["tenant acme/acme signed_out"]);
    assert!(!bench.is_live(&zoe).await && bench.is_live(&ben).await);
    let later = bench.session_in("acme", "zoe").await;
    assert!(bench.is_live(&later).await, "the tenant goes on");
    assert_eq!(bench.refused(sign_out_tenant("nowhere")).await, Refusal::UnknownTenant);
    let max = bench.actor("default", "max").await;
    let refused = bench.refused_as(&max, sign_out_tenant("default")).await;
    assert!(matches!(refused, Refusal::NotAllowed(_)), "there may be operators in it: {refused:?}");
}

pub(crate) async fn an_idle_session_is_over_and_a_used_one_goes_on(bench: Bench) {
    company(&bench).await;
    let idle = GRACE * 3;
    let ends_at = bench.after(GRACE * 4);
    let new = NewSession { idle: Some(idle), ends_at, ..bench.new_session("default", "ben", 1) };
    let live = bench.store.open_session(new.clone()).await.unwrap().unwrap();
    assert_eq!(live.expires_at, bench.after(idle));
    bench.pass(GRACE * 2);
    let rotation = bench.store.rotate(&new.id, &digest(1), &digest(2), &Origin::default()).await.unwrap();
    let Rotation::Rotated(live) = rotation else { panic!("{rotation:?}") };
    assert_eq!(live.expires_at, ends_at, "three further, but not beyond its end");
    assert_eq!(bench.store.load_session(&new.id).await.unwrap().value, Some(live));
    bench.pass(GRACE);
    assert!(bench.is_live(&new.id).await, "it was used");
    bench.pass(GRACE);
    assert!(!bench.is_live(&new.id).await, "all its time is up");

    let unused = NewSession { idle: Some(idle), ..bench.new_session("default", "ben", 1) };
    bench.store.open_session(unused.clone()).await.unwrap().unwrap();
    bench.pass(idle);
    assert!(!bench.is_live(&unused.id).await);
    assert_eq!(
        bench.store.rotate(&unused.id, &digest(1), &digest(2), &Origin::default()).await.unwrap(),
        Rotation::Over
    );
}

pub(crate) async fn a_renewed_hash_ends_nothing(bench: Bench) {
    company(&bench).await;
    let set = |hash| patch_user("ben", UserPatch { password: Some(Some(hash)), ..UserPatch::default() });
    bench.does([set(password("old"))]).await;
    let (session, head) = (bench.session("ben").await, bench.head().await);
    let home = tenant("default");
    let renew = async |id: &str, old: &str, new: &str| {
        bench.store.renew_hash(&home, &user(id), &password(old), &password(new)).await.unwrap()
    };
    assert!(!renew("ben", "older", "new").await, "it is another one by now");
    assert!(!renew("nobody", "old", "new").await);
    assert!(renew("ben", "old", "new").await);
    let found = bench.store.credentials(&home, "ben").await.unwrap().unwrap();
    assert_eq!(found.password, Some(password("new")));
    assert!(bench.is_live(&session).await);
    assert_eq!(bench.head().await, head, "nobody's permissions are others");
    bench.does([set(password("newer"))]).await;
    assert!(!bench.is_live(&session).await, "a new password still ends it");
}

pub(crate) async fn the_end_of_a_tenant_ends_all_in_it(bench: Bench) {
    company(&bench).await;
    let (zoe, ben) = (bench.session_in("acme", "zoe").await, bench.session("ben").await);
    assert_eq!(
        bench.rows(set_tenant_status("acme", Status::Suspended)).await,
        ["tenant acme/acme suspended"],
        "one row, however many are in it"
    );
    assert!(!bench.is_live(&zoe).await && bench.is_live(&ben).await);
    assert_eq!(bench.holds_in("acme", "zoe").await, None);
    bench.does([set_tenant_status("acme", Status::Active)]).await;
    assert!(!bench.is_live(&zoe).await, "what ended stays ended");
    let zoe = bench.session_in("acme", "zoe").await;
    assert_eq!(bench.rows(delete_tenant("acme")).await, ["tenant acme/acme deleted"]);
    assert!(!bench.is_live(&zoe).await && bench.is_live(&ben).await);
    bench.does([add_tenant("acme")]).await;
    assert!(!bench.is_live(&zoe).await);
    assert_eq!(bench.refused(within("acme", add_user("zoe"))).await, Refusal::TooSoon("zoe".to_owned()));
    assert_eq!(bench.store.roles(&tenant("acme"), None, 10).await.unwrap().items, []);
}

pub(crate) async fn a_new_password_of_ones_own_ends_the_other_sessions(bench: Bench) {
    company(&bench).await;
    let max = bench.actor("default", "max").await;
    let Actor::User { session: own, .. } = &max else { unreachable!() };
    let (one, other, bens) = (bench.session("max").await, bench.session("max").await, bench.session("ben").await);
    let patch = UserPatch { password: Some(Some(password("new"))), ..UserPatch::default() };
    let mut rows = super::bench::rows(&bench.does_as(&max, [patch_user("max", patch)]).await);
    rows.sort();
    let mut expected = [&one, &other].map(|id| format!("session default/{id} signed_out"));
    expected.sort();
    assert_eq!(rows, expected);
    assert!(bench.is_live(own).await && bench.is_live(&bens).await);
    assert!(!bench.is_live(&one).await && !bench.is_live(&other).await);
    let stored = bench.store.credentials(&tenant("default"), "max").await.unwrap().unwrap();
    assert_eq!(stored.password, Some(password("new")));
}

pub(crate) async fn a_new_password_by_another_ends_all_sessions(bench: Bench) {
    company(&bench).await;
    let max = bench.actor("default", "max").await;
    let (one, cleos) = (bench.session("ben").await, bench.session("cleo").await);
    let patch = |text: &str| UserPatch { password: Some(Some(password(text))), ..UserPatch::default() };
    let rows = super::bench::rows(&bench.does_as(&max, [patch_user("ben", patch("new"))]).await);
    assert_eq!(rows, ["user default/ben signed_out"]);
    assert!(!bench.is_live(&one).await && bench.is_live(&cleos).await);

    let stale = NewSession { password: Some(password("ben")), ..bench.new_session("default", "ben", 1) };
    assert_eq!(bench.store.open_session(stale).await.unwrap(), None, "checked against the password before");
    let two = bench.session("ben").await;
    bench.does([patch_user("ben", UserPatch { password: Some(None), ..UserPatch::default() })]).await;
    assert!(!bench.is_live(&two).await, "to take it away is a new one, too");
    assert!(!bench.store.user(&tenant("default"), &user("ben")).await.unwrap().unwrap().has_password);
}

pub(crate) async fn a_users_sessions_are_listed_while_they_live(bench: Bench) {
    company(&bench).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bench.session("ben").await);
    }
    bench.session("cleo").await;
    ids.sort();
    bench.end(&ids.remove(2), Effect::SignedOut).await;
    let page = async |after: Option<&str>, limit| {
        let page = bench.store.sessions(&tenant("default"), &user("ben"), after, limit).await.unwrap();
        (page.items.into_iter().map(|s| s.id).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(page(None, 10).await, (ids.clone(), None));
    let (first, next) = page(None, 3).await;
    assert_eq!((&first[..], next.as_deref()), (&ids[..3], Some(ids[2].as_str())));
    assert_eq!(page(next.as_deref(), 3).await, (ids[3..].to_vec(), None));

    let head = bench.head().await;
    bench.does([sign_out("cleo")]).await;
    bench.pass(GRACE);
    bench.store.rotate(&ids[0], &digest(1), &digest(2), &Origin::default()).await.unwrap();
    let items = bench.store.sessions(&tenant("default"), &user("ben"), None, 10).await.unwrap().items;
    let (refreshed, other) = (&items[0], &items[1]);
    assert_eq!((refreshed.last_refresh_at, refreshed.seq), (bench.now(), head.next()));
    assert_eq!((other.last_refresh_at, other.created_at), (bench.now().minus(GRACE), bench.now().minus(GRACE)));
    assert_eq!((other.address.as_str(), other.user_agent.as_str()), ("192.0.2.1", "bench"));
    assert!(other.seq <= head);

    bench.does([set_status("ben", Status::Suspended)]).await;
    assert_eq!(page(None, 10).await, (vec![], None));
    bench.does([delete_user("ben")]).await;
    assert_eq!(page(None, 10).await, (vec![], None));
}
