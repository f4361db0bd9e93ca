//! The log, units of many operations, and lists.

use std::time::Duration;

use futures_util::future::join_all;

use crate::domain::limits::TAIL_PAGE_ROWS;
use crate::domain::operation::{Operation, TenantPatch};
use crate::domain::records::Status;
use crate::domain::rules::Refusal;
use crate::domain::{Actor, Seq, TenantName, Unit};

use super::bench::Bench;
use super::company::company;
use super::words::{
    add_role, add_tenant, add_user, delete_tenant, forbid, give, permit, permit_until, role_gains, set_tenant_status,
    take, tenant, within,
};

pub(crate) async fn a_new_database_has_its_first_tenant(bench: Bench) {
    let tenants = bench.store.tenants(None, 10).await.unwrap();
    assert_eq!(tenants.items.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["default"]);
    assert_eq!((tenants.items[0].status, tenants.next), (Status::Active, None));
    assert_eq!(bench.refused(delete_tenant("default")).await, Refusal::FirstTenant);
    assert_eq!(bench.store.lockdown().await.unwrap(), None);
    bench.store.reopen().await.unwrap();
}

pub(crate) async fn the_tail_shows_what_is_after(bench: Bench) {
    company(&bench).await;
    let head = bench.head().await;
    let none = bench.store.tail(head).await.unwrap();
    assert_eq!((none.head, none.changes.len(), none.complete, none.unreadable), (head, 0, true, 0));
    bench.does([give("cleo", "viewer"), permit("cleo", "a")]).await;
    let two = bench.store.tail(head).await.unwrap();
    assert_eq!((two.changes.len(), two.complete, two.epoch), (2, true, none.epoch));
    let one = bench.store.tail(head.next()).await.unwrap();
    assert_eq!(one.changes, two.changes[1..]);
    let above = bench.store.tail(Seq::MAX).await.unwrap();
    assert_eq!((above.head, above.changes.len(), above.complete), (two.head, 0, true));
}

pub(crate) async fn the_tail_comes_in_pages(bench: Bench) {
    bench.does([add_user("ben")]).await;
    let rows = usize::try_from(TAIL_PAGE_ROWS).unwrap() + 500;
    let toggle = |n: usize| if n.is_multiple_of(2) { permit("ben", "a") } else { forbid("ben", "a") };
    let system = Actor::System("system");
    let before = bench.head().await;
    for start in (0..rows).step_by(1500) {
        let operations = (start..rows.min(start + 1500)).map(toggle).collect();
        bench.store.write(Unit { actor: system.clone(), operations }).await.unwrap();
    }
    let first = bench.store.tail(before).await.unwrap();
    assert!(!first.complete && first.changes.len() <= rows - 500);
    let mut all = first.changes;
    loop {
        let page = bench.store.tail(all.last().unwrap().seq).await.unwrap();
        assert_eq!(page.head, first.head);
        all.extend(page.changes);
        if page.complete {
            break;
        }
    }
    assert_eq!(all.len(), rows);
    assert!(all.iter().zip(before.get() + 1..).all(|(change, n)| change.seq.get() == n));
    assert_eq!(all.last().unwrap().seq, first.head);
}

pub(crate) async fn a_position_is_found_by_its_time(bench: Bench) {
    let start = bench.now();
    let before = bench.head().await;
    let mut heads = Vec::new();
    for n in 0..3 {
        bench.pass(Duration::from_secs(1));
        bench.does([add_user(&format!("u{n}"))]).await;
        heads.push(bench.head().await);
    }
    let second = Duration::from_secs(1);
    let at = async |time| bench.store.position_at(time).await.unwrap().seq;
    assert!(at(start.plus(second)).await <= before, "the row of that moment is not before it");
    assert_eq!(at(start.plus(second + Duration::from_millis(1))).await, heads[0]);
    assert_eq!(at(start.plus(second * 3)).await, heads[1]);
    assert_eq!(at(start.plus(second * 9)).await, heads[2]);
    assert_eq!(at(start.minus(second)).await, Seq::ZERO);
}

pub(crate) async fn what_is_old_is_taken_from_the_log_but_not_its_head(bench: Bench) {
    let hour = Duration::from_hours(1);
    let prune = async |limit| bench.store.prune_log(hour * 3, limit).await.unwrap();
    let mut heads = Vec::new();
    for n in 0..6 {
        bench.does([add_user(&format!("u{n}"))]).await;
        heads.push(bench.head().await);
        bench.pass(hour);
    }
    let first = bench.store.oldest_change().await.unwrap();
    assert!(first <= heads[0]);
    // The head is an hour old: what is kept is counted from there.
    assert_eq!(prune(1).await, 1, "no more than it was asked for");
    while prune(100).await > 0 {}
    assert_eq!(bench.store.oldest_change().await.unwrap(), heads[2], "written three hours before the head");
    let left = bench.store.tail(Seq::ZERO).await.unwrap();
    assert_eq!((left.head, left.complete, left.changes[0].seq), (heads[5], true, heads[2]));
    assert!(left.changes.iter().zip(heads[2].get()..).all(|(change, n)| change.seq.get() == n), "and no gap");
    bench.pass(hour * 100);
    assert_eq!(prune(100).await, 0, "a clock that is far ahead takes nothing away that the log's own time does not");
    bench.does([add_user("late")]).await;
    while prune(100).await > 0 {}
    assert_eq!(bench.store.oldest_change().await.unwrap(), bench.head().await);
    let next = bench.does([add_user("later")]).await.changes[0].seq;
    assert_eq!(next, bench.store.oldest_change().await.unwrap().next(), "it counts on");
}

pub(crate) async fn the_log_is_read_by_tenant(bench: Bench) {
    company(&bench).await;
    let head = bench.head().await;
    bench
        .does([
            add_user("dora"),
            within("acme", add_user("dora")),
            Operation::SetLockdown(Some(crate::domain::operation::NewLockdown {
                tenant: None,
                retry_after_s: 5,
                until: None,
            })),
            role_gains("viewer", "x"),
        ])
        .await;
    let read = async |home: Option<TenantName>, after, limit| {
        let rows = bench.store.changes(home.as_ref(), after, limit).await.unwrap();
        rows.iter().map(|row| row.change.target.kind().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(read(None, head, 10).await, ["user", "user", "lockdown", "role"]);
    assert_eq!(read(Some(tenant("acme")), head, 10).await, ["user", "lockdown"]);
    assert_eq!(read(Some(tenant("default")), head, 10).await, ["user", "lockdown", "role"]);
    assert_eq!(read(Some(tenant("default")), head, 2).await, ["user", "lockdown"]);
    assert_eq!(read(None, head.next(), 2).await, ["user", "lockdown"]);
    assert!(read(None, bench.head().await, 10).await.is_empty());
}

pub(crate) async fn a_unit_is_done_in_order(bench: Bench) {
    let written = bench
        .does([
            add_role("viewer", &["a"], &[]),
            add_user("ben"),
            give("ben", "viewer"),
            give("ben", "viewer"),
            permit("ben", "b"),
            take("ben", "viewer"),
        ])
        .await;
    let changed: Vec<bool> = written.outcomes.iter().map(|outcome| outcome.change.is_some()).collect();
    assert_eq!(changed, [true, true, true, false, true, true]);
    assert!(written.outcomes.iter().filter_map(|outcome| outcome.change).is_sorted());
    assert_eq!(bench.holds("ben").await.unwrap(), ["b"]);
    assert!(bench.does([]).await.changes.is_empty());
}

pub(crate) async fn a_unit_is_done_as_a_whole_or_not(bench: Bench) {
    company(&bench).await;
    let system = Actor::System("system");
    let good = || vec![add_user("dora"), give("dora", "viewer"), role_gains("viewer", "x"), add_tenant("new")];
    for index in 0..=good().len() {
        let mut operations = good();
        operations.insert(index, give("nobody", "viewer"));
        let refused = bench.all_refused(&system, operations).await;
        assert_eq!(refused, (index, Refusal::UnknownUser("nobody".to_owned())));
    }
    bench.does(good()).await;
}

pub(crate) async fn of_writes_side_by_side_each_stands_alone(bench: Bench) {
    company(&bench).await;
    let (before, told) = (bench.head().await, bench.told().len());
    let writes = (0..40).map(|n| {
        // Every fourth is refused at its second operation.
        let second = if n % 4 == 0 { give("nobody", "viewer") } else { permit("ben", &format!("b{n}")) };
        let operations = vec![permit("cleo", &format!("a{n}")), second];
        bench.store.write(Unit { actor: Actor::System("system"), operations })
    });
    let results = join_all(writes).await;
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 10);
    let page = bench.store.tail(before).await.unwrap();
    assert_eq!(page.changes.len(), 60);
    assert_eq!(bench.told()[told..], page.changes, "the listener is told in the order of the log");
    for written in results.into_iter().flatten() {
        let mine: Vec<_> = written.changes.iter().map(|change| change.seq).collect();
        assert_eq!(mine.len(), 2, "no more than its own");
        assert!(mine.iter().all(|seq| page.changes.iter().any(|change| change.seq == *seq)));
        assert!(written.version.seq >= mine[1]);
    }
    assert_eq!(bench.granted("cleo").await.len(), 30);
}

pub(crate) async fn tenants_are_made_altered_and_deleted(bench: Bench) {
    assert_eq!(bench.rows(add_tenant("acme")).await, ["tenant acme/acme changed"]);
    assert!(matches!(bench.refused(add_tenant("acme")).await, Refusal::Exists(_)));
    assert!(matches!(bench.refused(add_tenant("default")).await, Refusal::Exists(_)));
    let describe = TenantPatch { description: Some("ACME".to_owned()), status: None };
    let describe = Operation::PatchTenant { tenant: tenant("acme"), patch: describe };
    assert!(bench.rows(describe).await.is_empty());
    assert_eq!(bench.store.tenant(&tenant("acme")).await.unwrap().unwrap().description, "ACME");
    assert!(bench.rows(set_tenant_status("acme", Status::Active)).await.is_empty());
    assert_eq!(bench.rows(set_tenant_status("acme", Status::Suspended)).await, ["tenant acme/acme suspended"]);
    assert!(bench.rows(set_tenant_status("acme", Status::Suspended)).await.is_empty());
    assert_eq!(bench.rows(set_tenant_status("acme", Status::Active)).await, ["tenant acme/acme changed"]);
    assert_eq!(bench.rows(delete_tenant("acme")).await, ["tenant acme/acme deleted"]);
    assert_eq!(bench.refused(delete_tenant("acme")).await, Refusal::UnknownTenant);
    assert_eq!(bench.refused(set_tenant_status("acme", Status::Active)).await, Refusal::UnknownTenant);
    assert_eq!(bench.store.tenant(&tenant("acme")).await.unwrap(), None);
}

pub(crate) async fn a_deleted_tenant_leaves_nothing(bench: Bench) {
    company(&bench).await;
    let soon = Some(bench.after(Duration::from_mins(1)));
    bench.does([within("acme", permit_until("yan", "a", soon))]).await;
    bench.does([delete_tenant("acme")]).await;
    assert_eq!(bench.store.next_expiry().await.unwrap(), None);
    assert_eq!(bench.holds_in("acme", "zoe").await, None);
    bench.does([add_tenant("acme"), within("acme", add_user("new"))]).await;
    assert_eq!(bench.holds_in("acme", "new").await, Some(vec![]));
    bench.pass(Duration::from_mins(1));
    assert!(bench.expire().await.is_empty());
}

pub(crate) async fn lists_are_ordered_and_paged(bench: Bench) {
    for name in ["delta", "alpha", "charlie", "bravo"] {
        bench.does([add_tenant(name), add_user(name), add_role(name, &[], &[])]).await;
    }
    bench.does([add_user("Zed"), add_user("_x")]).await;
    let home = tenant("default");
    let users = async |after: Option<String>, limit| {
        let page = bench.store.users(&home, after.as_deref(), limit).await.unwrap();
        (page.items.into_iter().map(|u| u.id.to_string()).collect::<Vec<_>>(), page.next)
    };
    let all = ["Zed", "_x", "alpha", "bravo", "charlie", "delta"].map(str::to_owned);
    assert_eq!(users(None, 10).await, (all.to_vec(), None));
    assert_eq!(users(None, 6).await.1, None, "nothing follows the last");
    let (first, next) = users(None, 4).await;
    assert_eq!((&first[..], next.as_deref()), (&all[..4], Some("bravo")));
    assert_eq!(users(next, 4).await, (all[4..].to_vec(), None));
    assert_eq!(users(Some("bz".to_owned()), 1).await, (vec!["charlie".to_owned()], Some("charlie".to_owned())));

    let roles = bench.store.roles(&home, Some("alpha"), 2).await.unwrap();
    assert_eq!(roles.items.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["bravo", "charlie"]);
    assert_eq!(roles.next.as_deref(), Some("charlie"));
    let tenants = bench.store.tenants(Some("charlie"), 2).await.unwrap();
    assert_eq!(tenants.items.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["default", "delta"]);
    assert_eq!(tenants.next, None);
    assert_eq!(bench.store.users(&tenant("nowhere"), None, 10).await.unwrap().items, []);
}
