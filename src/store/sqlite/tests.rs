//! The contract suite on SQLite.

use std::sync::Arc;

use super::SqliteStore;
use crate::store::contract::{Made, Parts, agreement::agreement_test, audit_suite, contract_suite};

async fn make(parts: Parts) -> Made {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permcast.db");
    let store = SqliteStore::open(path.to_str().unwrap(), parts.options, parts.clock, &*parts.random).await.unwrap();
    (Arc::new(store), Box::new(directory))
}

contract_suite!(super::make);
audit_suite!(super::make);
agreement_test!(make, 24);
