//! The contract suite on PostgreSQL.

use std::sync::Arc;

use super::PostgresStore;
use super::testing::database;
use crate::store::contract::{Made, Parts, agreement::agreement_test, audit_suite, contract_suite};

async fn make(parts: Parts) -> Made {
    let database = database();
    let store = PostgresStore::open(database.url(), 2, parts.options, parts.clock, &*parts.random).await.unwrap();
    (Arc::new(store), Box::new(database))
}

contract_suite!(super::make);
audit_suite!(super::make);
agreement_test!(make, 8);

#[tokio::test]
async fn a_refresh_takes_two_trips_and_what_the_server_does() {
    let bench = crate::store::contract::bench::Bench::new(make).await;
    // On the bench the clock stands still, and so the trips take no time.
    let takes = bench.store.refresh_takes(std::time::Duration::from_millis(20)).await;
    assert_eq!(takes, Some(super::REFRESH_WORK));
}

#[tokio::test]
async fn a_name_that_nobody_can_have_is_nobodys() {
    let bench = crate::store::contract::bench::Bench::new(make).await;
    let tenant = crate::domain::TenantName::first();
    assert_eq!(bench.store.credentials(&tenant, "ben\0").await.unwrap(), None);
}
