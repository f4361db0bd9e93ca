//! The last operator cannot be lost, by any route, whoever asks.

use std::time::Duration;

use crate::domain::operation::Operation;
use crate::domain::permission::OPERATOR;
use crate::domain::records::Status;
use crate::domain::rules::Refusal;

use super::bench::Bench;
use super::words::{
    add_role, add_tenant, add_user, delete_role, delete_tenant, delete_user, exclude, forbid, give, give_until,
    include, patch_role, permit, permit_until, role_gains, role_loses, set_status, set_tenant_status, suspend, take,
    within,
};

/// The only one holds it through a role that includes the role that carries it.
async fn one_operator(bench: &Bench) {
    bench
        .does([
            add_role("operators", &[OPERATOR, "x"], &[]),
            add_role("chiefs", &[], &["operators"]),
            add_user("ada"),
            add_user("ben"),
            give("ada", "chiefs"),
        ])
        .await;
}

/// Every way to lose her, and back; the last has none.
fn routes(bench: &Bench) -> Vec<(Operation, Vec<Operation>)> {
    let later = Some(bench.after(Duration::from_mins(1)));
    let (active, closed) = (Status::Active, Status::Suspended);
    vec![
        (suspend("ada"), vec![set_status("ada", active)]),
        (take("ada", "chiefs"), vec![give("ada", "chiefs")]),
        (give_until("ada", "chiefs", later), vec![give("ada", "chiefs")]),
        (role_loses("operators", OPERATOR), vec![role_gains("operators", OPERATOR)]),
        (patch_role("operators", Some(&["x"]), None), vec![role_gains("operators", OPERATOR)]),
        (exclude("chiefs", "operators"), vec![include("chiefs", "operators")]),
        (patch_role("chiefs", None, Some(&[])), vec![include("chiefs", "operators")]),
        (set_tenant_status("default", closed), vec![set_tenant_status("default", active)]),
        (delete_role("operators"), vec![add_role("operators", &[OPERATOR], &[]), include("chiefs", "operators")]),
        (delete_role("chiefs"), vec![add_role("chiefs", &[], &["operators"]), give("ada", "chiefs")]),
        (delete_user("ada"), vec![]),
    ]
}

pub(crate) async fn the_last_operator_stays(bench: Bench) {
    assert!(!bench.store.has_operator().await.unwrap());
    one_operator(&bench).await;
    assert!(bench.store.has_operator().await.unwrap());
    let ada = bench.actor("default", "ada").await;
    for (loss, _) in routes(&bench) {
        assert_eq!(bench.refused(loss.clone()).await, Refusal::LastOperator, "{loss:?}");
        assert_eq!(bench.refused_as(&ada, loss.clone()).await, Refusal::LastOperator, "{loss:?}");
    }
    assert!(bench.store.has_operator().await.unwrap());
}

pub(crate) async fn one_of_two_may_go(bench: Bench) {
    one_operator(&bench).await;
    let second = |op| within("spare", op);
    bench.does([add_tenant("spare"), second(add_user("eve")), second(permit("eve", OPERATOR))]).await;
    for (loss, back) in routes(&bench) {
        bench.does([loss]).await;
        assert!(bench.store.has_operator().await.unwrap());
        assert_eq!(bench.refused(delete_tenant("spare")).await, Refusal::LastOperator);
        bench.does(back).await;
    }
    assert_eq!(bench.refused(second(forbid("eve", OPERATOR))).await, Refusal::LastOperator);
}

pub(crate) async fn who_does_not_count_is_no_second(bench: Bench) {
    one_operator(&bench).await;
    let later = Some(bench.after(Duration::from_mins(1)));
    bench
        .does([
            permit_until("ben", OPERATOR, later),
            add_role("temps", &[], &["operators"]),
            give_until("ben", "temps", later),
            add_user("idle"),
            permit("idle", OPERATOR),
            suspend("idle"),
            add_tenant("closed"),
            within("closed", add_user("eve")),
            within("closed", permit("eve", OPERATOR)),
            set_tenant_status("closed", Status::Suspended),
            add_user("wild"),
            permit("wild", "*"),
            permit("wild", "permcast:*"),
        ])
        .await;
    for operation in [suspend("ada"), delete_user("ada"), take("ada", "chiefs")] {
        assert_eq!(bench.refused(operation).await, Refusal::LastOperator);
    }
    bench.does([permit("ben", OPERATOR)]).await;
    bench.does([delete_user("ada")]).await;
    assert_eq!(bench.refused(permit_until("ben", OPERATOR, later)).await, Refusal::LastOperator);
    assert_eq!(bench.refused(forbid("ben", OPERATOR)).await, Refusal::LastOperator);
}

pub(crate) async fn in_a_batch_he_is_lost_at_the_operation_that_loses_him(bench: Bench) {
    one_operator(&bench).await;
    let system = crate::domain::Actor::System("system");
    let lost = vec![add_user("x"), take("ada", "chiefs"), permit("ben", OPERATOR)];
    assert_eq!(bench.all_refused(&system, lost).await, (1, Refusal::LastOperator));
    bench.does([permit("ben", OPERATOR), take("ada", "chiefs")]).await;
    let swapped = vec![permit("ada", OPERATOR), forbid("ben", OPERATOR), forbid("ada", OPERATOR)];
    assert_eq!(bench.all_refused(&system, swapped).await, (2, Refusal::LastOperator));
}

pub(crate) async fn where_there_is_none_none_is_missed(bench: Bench) {
    bench.does([add_role("a", &["x"], &[]), add_user("ben"), give("ben", "a"), suspend("ben"), delete_role("a")]).await;
    bench.does([set_tenant_status("default", Status::Suspended)]).await;
    assert_eq!(bench.refused(delete_tenant("default")).await, Refusal::FirstTenant);
}
