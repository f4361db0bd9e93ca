use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::*;
use crate::domain::records::UserKind;
use crate::runtime::SystemRandom;
use crate::store::memory::MemoryStore;
use crate::store::{CommitListener, StoreOptions};
use crate::token::TokenError;
use crate::token::bench::{Bench, StandingClock, TTL, Wishes};

const SYSTEM: Actor = Actor::System("system");

struct Nobody;
impl CommitListener for Nobody {
    fn committed(&self, _: crate::domain::Epoch, _: &[crate::domain::Change]) {}
}

fn kids(keys: &KeySet) -> Vec<String> {
    let jwks: Value = serde_json::from_str(&keys.jwks()).unwrap();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_thumbprint_is_that_of_rfc_7638_and_8037() {
    let rsa: PublicKey = serde_json::from_str(concat!(
        r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP"#,
        r#"ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgn"#,
        r#"Yb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csF"#,
        r#"Cur-kEgU8awapJzKnqDKgw","e":"AQAB"}"#
    ))
    .unwrap();
    assert_eq!(rsa.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    let ed: PublicKey =
        serde_json::from_str(r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#)
            .unwrap();
    assert_eq!(ed.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[tokio::test]
async fn each_algorithm_signs_and_verifies_through_its_stored_form() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let private = PrivateKey::generate(algorithm).unwrap();
        let public: PublicKey = serde_json::from_slice(&private.public().to_json()).unwrap();
        let again = PrivateKey::from_pkcs8(algorithm, &private.to_pkcs8().unwrap()).unwrap();
        let signature = again.sign(b"message").unwrap();
        assert!(public.parse().unwrap().verify_sig(b"message", &signature).is_ok());
        assert!(public.parse().unwrap().verify_sig(b"massage", &signature).is_err());
        assert_eq!(public.algorithm(), algorithm);
    }
}

#[tokio::test]
async fn the_first_start_makes_a_current_and_a_next_key_for_all_replicas() {
    let bench = Bench::new().await;
    let sibling = bench.sibling().await;
    assert_eq!(kids(&bench.keys).len(), 2);
    assert_eq!(kids(&bench.keys), kids(&sibling.keys));
    let jwks: Value = serde_json::from_str(&bench.keys.jwks()).unwrap();
    let key = &jwks["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
        (&"OKP".into(), &"Ed25519".into(), &"EdDSA".into(), &"sig".into())
    );
    assert!(key.get("d").is_none());
}

#[tokio::test]
async fn a_rotation_leaves_no_gap() {
    let bench = Bench::new().await;
    bench.user("ben", UserKind::Person, &[]).await;
    let sibling = bench.sibling().await;
    let old = bench.sign_in("ben").await.unwrap().access.token;
    let before = kids(&bench.keys);
    bench.keys.rotate(SYSTEM, false, false).await.unwrap();
    let after = kids(&bench.keys);
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|kid| after.contains(kid)));
    assert!(bench.verifier.verify(&old).is_ok());
    let new = bench.sign_in("ben").await.unwrap().access.token;
    assert!(sibling.verifier.verify(&new).is_ok(), "it was told of the next key long ago");
    // As long as a token signed with the old key may live, and no longer.
    bench.clock.pass(TTL);
    assert_eq!(kids(&bench.keys).len(), 3);
    bench.clock.pass(2 * CLOCK_LEEWAY);
    assert_eq!(kids(&bench.keys).len(), 2);
    assert!(matches!(bench.verifier.verify(&old), Err(TokenError::UnknownKey { .. })));
}

#[tokio::test]
async fn a_revocation_retires_every_older_key_at_once_the_next_one_too() {
    let bench = Bench::new().await;
    bench.user("ben", UserKind::Person, &[]).await;
    let old = bench.sign_in("ben").await.unwrap().access.token;
    assert!(bench.verifier.verify(&old).is_ok(), "and is cached");
    let before = kids(&bench.keys);
    bench.keys.rotate(SYSTEM, true, false).await.unwrap();
    let after = kids(&bench.keys);
    assert_eq!(after.len(), 2);
    assert!(before.iter().all(|kid| !after.contains(kid)));
    assert!(matches!(bench.verifier.verify(&old), Err(TokenError::UnknownKey { .. })));
}

#[tokio::test]
async fn an_unknown_kid_makes_the_keys_be_read_anew_but_not_at_every_call() {
    let bench = Bench::new().await;
    bench.user("ben", UserKind::Person, &[]).await;
    let sibling = bench.sibling().await;
    bench.keys.rotate(SYSTEM, true, false).await.unwrap();
    let first = bench.sign_in("ben").await.unwrap().access.token;
    assert!(sibling.verifier.verify(&first).is_err());
    assert!(sibling.verifier.verify_with_new_keys(&first).await.is_ok());
    bench.keys.rotate(SYSTEM, true, false).await.unwrap();
    let second = bench.sign_in("ben").await.unwrap().access.token;
    assert!(sibling.verifier.verify_with_new_keys(&second).await.is_err(), "within the same second");
    sibling.clock.pass(UNKNOWN_KID_RELOAD_EVERY);
    assert!(sibling.verifier.verify_with_new_keys(&second).await.is_ok());
}

#[tokio::test]
async fn a_change_of_the_algorithm_comes_with_the_keys_made_from_then_on() {
    let bench = Bench::with(Wishes { algorithm: Algorithm::Es256, ..Wishes::default() }).await;
    bench.user("ben", UserKind::Person, &[]).await;
    assert_eq!(bench.keys.algorithm(), Algorithm::Es256);
    let sibling = bench.sibling().await;
    sibling.keys.rotate(SYSTEM, true, false).await.unwrap();
    assert_eq!(sibling.keys.algorithm(), Algorithm::EdDsa);
    let token = sibling.sign_in("ben").await.unwrap().access.token;
    assert!(bench.verifier.verify_with_new_keys(&token).await.is_ok());
}

#[tokio::test]
async fn sealed_keys_open_with_the_key_encryption_key_alone() {
    let options = StoreOptions { id_rest: TTL, refresh_grace: TTL, deadline: TTL, listener: Arc::new(Nobody) };
    let clock = Arc::new(StandingClock::default());
    let random = Arc::new(SystemRandom);
    let store =
        Arc::new(MemoryStore::new(options, Arc::<StandingClock>::clone(&clock), Arc::<SystemRandom>::clone(&random)));
    let open = async |vault: Vault| {
        let (clock, random) = (Arc::<StandingClock>::clone(&clock), Arc::<SystemRandom>::clone(&random));
        KeySet::open(Arc::<MemoryStore>::clone(&store), Arc::new(vault), Algorithm::EdDsa, TTL, clock, random).await
    };
    let key = |byte: u8| Vault::with_key(&STANDARD.encode([byte; 32])).unwrap();
    let made = open(key(1)).await.unwrap();
    assert_eq!(kids(&open(key(1)).await.unwrap()), kids(&made));
    let without = open(Vault::plain()).await.unwrap_err().to_string();
    assert!(without.contains("PERMCAST_KEY_ENCRYPTION_KEY"), "{without}");
    assert!(matches!(open(key(2)).await, Err(KeyError::Vault(VaultError::WrongKey(_)))));
}

#[test]
fn a_stored_key_whose_parts_do_not_fit_is_refused() {
    let vault = Vault::plain();
    let private = PrivateKey::generate(Algorithm::EdDsa).unwrap();
    let kid = private.public().thumbprint();
    let good = StoredKey {
        kid: kid.clone(),
        algorithm: "EdDSA".into(),
        private: vault.seal("", &private.to_pkcs8().unwrap(), &SystemRandom),
        public: private.public().to_json(),
        state: KeyState::Current,
        created_at: Timestamp::default(),
        retire_at: None,
    };
    assert!(read(&vault, std::slice::from_ref(&good)).is_ok());
    let other = PrivateKey::generate(Algorithm::EdDsa).unwrap();
    for bad in [
        StoredKey { kid: "x".into(), ..good.clone() },
        StoredKey { algorithm: "ES256".into(), ..good.clone() },
        StoredKey { algorithm: "none".into(), ..good.clone() },
        StoredKey { public: other.public().to_json(), ..good.clone() },
        StoredKey { private: vault.seal("", &other.to_pkcs8().unwrap(), &SystemRandom), ..good.clone() },
    ] {
        assert!(matches!(read(&vault, &[bad]), Err(KeyError::Unreadable { .. })));
    }
    let next = StoredKey { state: KeyState::Next, ..good };
    assert!(matches!(read(&vault, &[next]), Err(KeyError::NoCurrent)));
    assert_eq!(URL_SAFE_NO_PAD.decode(kid).unwrap().len(), 32);
}
