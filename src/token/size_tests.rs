//! The table of `docs/tokens.md`: what a token weighs.

use std::fmt::Write as _;

use super::*;
use crate::domain::{Grant, TenantName};
use crate::token::bench::{Bench, Wishes};
use crate::token::{Algorithm, TokenPermissions};

const DOCUMENT: &str = include_str!("../../docs/tokens.md");

/// A user with so many permissions, each written as `invoices<n>:read`, through one role.
fn access(permissions: usize) -> Access {
    let grants = (0..permissions).map(|n| format!("invoices{n}:read").parse::<Grant>().unwrap());
    Access {
        tenant: TenantName::first(),
        user: "ben".parse().unwrap(),
        roles: ["editor"].map(|role| role.parse().unwrap()).into(),
        permissions: Arc::new(grants.collect()),
        first_expiry: None,
    }
}

/// Of a thin token, of one that says that it is, and of fat ones.
type Weights = (usize, usize, [usize; 3]);

#[tokio::test]
async fn the_document_says_what_tokens_weigh() {
    let mut columns = Vec::new();
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let bench = Bench::with(Wishes { algorithm, ..Wishes::default() }).await;
        let settings = TokenSettings {
            issuer: "https://permcast.example.org".into(),
            audience: "https://api.example.org".into(),
            ttl: Duration::from_mins(15),
            permissions: TokenPermissions::Claims,
        };
        let clock: Arc<dyn Clock> = bench.clock.clone();
        let mint = Mint::new(Arc::clone(&bench.keys), settings, clock, Arc::new(crate::runtime::SystemRandom));
        let weigh = |permissions: usize, carried| {
            let snapshot = Snapshot {
                access: Arc::new(access(permissions)),
                session: SessionId::from_random([7; 16]),
                session_expires_at: bench.clock.now().plus(Duration::from_hours(10)),
                version: bench.applied.version(),
                client_id: "permcast".into(),
            };
            let now = bench.clock.now();
            mint.sign(now, &snapshot, now.plus(Duration::from_mins(15)), carried).unwrap().token.len()
        };
        columns.push((
            weigh(0, None),
            weigh(0, Some(Permissions::Omitted)),
            [10, 100, 1000].map(|permissions| weigh(permissions, Some(Permissions::Carried))),
        ));
    }
    let mut table = String::new();
    let mut row = |what: &str, of: fn(&Weights) -> usize| {
        let [eddsa, es256, rs256] = [0, 1, 2].map(|index: usize| of(&columns[index]));
        let _ = writeln!(table, "| {what} | {eddsa} | {es256} | {rs256} |");
    };
    row("thin (`none`)", |(thin, ..)| *thin);
    row("thin, and says so (`permissions_omitted`)", |(_, omitted, _)| *omitted);
    row("10 permissions", |(.., fat)| fat[0]);
    row("100 permissions", |(.., fat)| fat[1]);
    row("1,000 permissions, which no header holds", |(.., fat)| fat[2]);
    assert!(DOCUMENT.contains(&table), "docs/tokens.md does not have this table:\n{table}");
    for (_, _, [_, hundred, thousand]) in columns {
        assert!(hundred <= TOKEN_BYTES_MAX && thousand > TOKEN_BYTES_ACCEPTED, "as the document tells it");
    }
}
