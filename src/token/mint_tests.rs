use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::domain::records::UserKind;
use crate::domain::{Grant, RoleName, TenantName};
use crate::token::bench::{Bench, ISSUER, TTL, Wishes};
use crate::token::{Algorithm, TokenError};

fn payload(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn access(grants: usize, first_expiry: Option<Timestamp>) -> Access {
    Access {
        tenant: TenantName::first(),
        user: "ben".parse().unwrap(),
        roles: ["editor", "viewer"].map(|role| role.parse().unwrap()).into(),
        permissions: Arc::new((0..grants).map(|i| format!("things:number-{i}").parse::<Grant>().unwrap()).collect()),
        first_expiry,
    }
}

fn snapshot(bench: &Bench, access: Access) -> Snapshot {
    Snapshot {
        access: Arc::new(access),
        session: SessionId::from_random([7; 16]),
        session_expires_at: bench.clock.now().plus(Duration::from_hours(10)),
        version: bench.applied.version(),
        client_id: "permcast".into(),
    }
}

async fn bench(permissions: TokenPermissions) -> Bench {
    Bench::with(Wishes { permissions, ..Wishes::default() }).await
}

#[tokio::test]
async fn a_token_says_what_the_contract_says() {
    let bench = bench(TokenPermissions::Auto).await;
    let minted = bench.mint.mint(&snapshot(&bench, access(2, None))).unwrap();
    let header = URL_SAFE_NO_PAD.decode(minted.token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!((&header["typ"], &header["alg"]), (&"at+jwt".into(), &"EdDSA".into()));
    let claims = payload(&minted.token);
    let now = bench.clock.now().seconds();
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["sub"], "default/ben");
    assert_eq!(claims["aud"], "audience");
    assert_eq!((claims["iat"].as_i64(), claims["exp"].as_i64()), (Some(now), Some(now + 900)));
    assert_eq!(claims["sid"], SessionId::from_random([7; 16]).as_str());
    assert_eq!((&claims["tenant"], &claims["client_id"]), (&"default".into(), &"permcast".into()));
    assert_eq!(claims["pv"], bench.applied.version().to_string());
    assert_eq!(claims["roles"], serde_json::json!(["editor", "viewer"]));
    assert_eq!(claims["permissions"], serde_json::json!(["things:number-0", "things:number-1"]));
    assert!(claims["jti"].is_string() && claims.get("permissions_omitted").is_none());
    assert_eq!((minted.expires_in, minted.thin), (900, false));
    let again = bench.mint.mint(&snapshot(&bench, access(2, None))).unwrap();
    assert_ne!(payload(&again.token)["jti"], claims["jti"]);
}

#[tokio::test]
async fn a_token_too_large_for_a_header_goes_thin_and_says_so() {
    for (permissions, grants, thin, omitted) in [
        (TokenPermissions::Auto, 100, false, false),
        (TokenPermissions::Auto, 300, true, true),
        (TokenPermissions::Claims, 300, false, false),
        (TokenPermissions::Claims, 1000, true, true),
        (TokenPermissions::None, 1, true, false),
    ] {
        let bench = bench(permissions).await;
        let minted = bench.mint.mint(&snapshot(&bench, access(grants, None))).unwrap();
        let claims = payload(&minted.token);
        assert_eq!(minted.thin, thin, "{permissions:?} {grants}");
        assert_eq!(claims.get("permissions_omitted").is_some(), omitted, "{permissions:?} {grants}");
        assert_eq!((claims.get("roles").is_none(), claims.get("permissions").is_none()), (thin, thin));
        if permissions == TokenPermissions::Auto {
            assert!(minted.token.len() <= TOKEN_BYTES_MAX);
        }
        assert_eq!(bench.verifier.verify(&minted.token).unwrap().access.is_none(), thin);
    }
}

#[tokio::test]
async fn no_token_outlives_a_grant_that_it_carries() {
    let bench = bench(TokenPermissions::Auto).await;
    let now = bench.clock.now();
    let mint = |left: Duration| bench.mint.mint(&snapshot(&bench, access(1, Some(now.plus(left))))).unwrap();
    let cut = mint(Duration::from_mins(1));
    assert_eq!((cut.expires_in, cut.thin), (55, false));
    assert_eq!(mint(Duration::from_millis(60_999)).expires_in, 55, "rounded down");
    assert_eq!(mint(Duration::from_hours(1)).expires_in, 900);
    let brief = mint(Duration::from_secs(4));
    assert_eq!((brief.expires_in, brief.thin), (9, true), "a fat one would be born dead");
    bench.clock.pass(Duration::from_secs(59));
    assert!(bench.verifier.verify(&cut.token).is_ok());
    bench.clock.pass(Duration::from_secs(1));
    assert_eq!(
        bench.verifier.verify(&cut.token).unwrap_err(),
        TokenError::Expired,
        "with all leeway, when the grant is over"
    );
}

#[tokio::test]
async fn no_token_outlives_its_session() {
    let bench = bench(TokenPermissions::None).await;
    let session_expires_at = bench.clock.now().plus(Duration::from_secs(30));
    let minted = bench.mint.mint(&Snapshot { session_expires_at, ..snapshot(&bench, access(1, None)) }).unwrap();
    assert_eq!(minted.expires_in, 30);
}

#[tokio::test]
async fn another_implementation_accepts_our_tokens_by_our_jwks() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let bench = Bench::with(Wishes { algorithm, ..Wishes::default() }).await;
        bench.user("ben", UserKind::Person, &["invoices:read"]).await;
        let token = bench.sign_in("ben").await.unwrap().access.token;
        let jwks: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&bench.keys.jwks()).unwrap();
        let header = jsonwebtoken::decode_header(&token).unwrap();
        let jwk = jwks.find(&header.kid.unwrap()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(header.alg);
        validation.set_audience(&["audience"]);
        validation.set_issuer(&[ISSUER]);
        // The bench's clock stands at a day that is not today.
        validation.validate_exp = false;
        let key = jsonwebtoken::DecodingKey::from_jwk(jwk).unwrap();
        let decoded = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap();
        assert_eq!(decoded.claims["sub"], "default/ben", "{algorithm:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_minted_is_verified_as_what_it_was(
        roles in proptest::collection::btree_set("[a-z0-9][a-z0-9._-]{0,20}", 0..8),
        grants in proptest::collection::btree_set("[a-z0-9_][a-z0-9_.-]{0,9}(:([a-z]{1,5}|\\*)){0,3}", 0..20),
        user in "[A-Za-z0-9_][A-Za-z0-9._@:|+-]{0,40}",
        left in proptest::option::of(0u64..2000),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = bench(TokenPermissions::Auto).await;
            let access = Access {
                tenant: TenantName::first(),
                user: user.parse().unwrap(),
                roles: roles.iter().map(|role| role.parse::<RoleName>().unwrap()).collect(),
                permissions: Arc::new(grants.iter().map(|grant| grant.parse::<Grant>().unwrap()).collect()),
                first_expiry: left.map(|left| bench.clock.now().plus(Duration::from_secs(left))),
            };
            let snapshot = snapshot(&bench, access.clone());
            let minted = bench.mint.mint(&snapshot).unwrap();
            let verified = bench.verifier.verify(&minted.token).unwrap();
            let claims = &verified.claims;
            prop_assert_eq!((&claims.tenant, &claims.user), (&access.tenant, &access.user));
            prop_assert_eq!((claims.session(), claims.version), (Some(&snapshot.session), snapshot.version));
            prop_assert_eq!(claims.expires_at, minted.expires_at);
            prop_assert!(minted.expires_at <= bench.clock.now().plus(TTL));
            match &verified.access {
                Some(carried) => {
                    prop_assert_eq!(&carried.roles, &access.roles);
                    prop_assert_eq!(carried.permissions.grants(), access.permissions.grants());
                    let end = access.first_expiry.unwrap_or(minted.expires_at.plus(CLOCK_LEEWAY));
                    prop_assert!(minted.expires_at.plus(CLOCK_LEEWAY) <= end);
                }
                None => prop_assert!(minted.thin && left.is_some_and(|left| left <= 5)),
            }
            Ok(())
        })?;
    }
}
