//! The attacks of RFC 8725, section 2, and some more.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::domain::floors::Freshness;
use crate::domain::records::UserKind;
use crate::token::bench::{Bench, ISSUER, TTL, Wishes};
use crate::token::{Algorithm, algorithm::PrivateKey};

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The parts of a token, to be bent.
struct Bent {
    header: Value,
    claims: Value,
}

impl Bent {
    fn of(token: &str) -> Self {
        let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
        let mut json = || serde_json::from_slice(&parts.next().unwrap()).unwrap();
        Self { header: json(), claims: json() }
    }

    /// As our own key would sign it.
    fn signed(&self, bench: &Bench) -> String {
        sign_text(bench, &self.header.to_string(), &self.claims.to_string())
    }

    fn unsigned(&self) -> String {
        format!("{}.{}", base64(self.header.to_string()), base64(self.claims.to_string()))
    }
}

/// Signs any two texts with our own key: what no outsider can, so that the checks behind the signature are reached.
fn sign_text(bench: &Bench, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", base64(header), base64(claims));
    let signature = bench.keys.keys().signing.private.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", base64(signature))
}

async fn signed_in() -> (Bench, String) {
    let bench = Bench::new().await;
    bench.user("ben", UserKind::Person, &["invoices:read"]).await;
    bench.role("ben", "editor", &["invoices:write"]).await;
    let token = bench.sign_in("ben").await.unwrap().access.token;
    assert!(bench.verifier.verify(&token).is_ok());
    (bench, token)
}

#[tokio::test]
async fn a_token_without_a_signature_of_ours_is_refused() {
    let (bench, token) = signed_in().await;
    let bent = Bent::of(&token);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let stranger = PrivateKey::generate(Algorithm::EdDsa).unwrap();
    let mut tokens = vec![
        message.to_owned(),
        format!("{message}."),
        format!("{message}.{}", base64([0; 64])),
        format!("{message}.{}", base64(stranger.sign(message.as_bytes()).unwrap())),
        format!("{message}.{signature}=="),
        format!("{message}.{signature}."),
        format!("{message}. {signature}"),
        format!(".{message}.{signature}"),
    ];
    for alg in ["none", "None", "NONE", "", "HS256", "ES256", "RS256", "eddsa"] {
        let mut header = bent.header.clone();
        header["alg"] = json!(alg);
        let bent = Bent { header, claims: bent.claims.clone() };
        tokens.push(format!("{}.", bent.unsigned()));
        tokens.push(bent.signed(&bench));
    }
    for token in tokens {
        assert_eq!(bench.verifier.verify(&token).unwrap_err(), TokenError::Invalid, "{token}");
    }
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let bench = Bench::with(Wishes { algorithm, ..Wishes::default() }).await;
        bench.user("ben", UserKind::Person, &[]).await;
        let token = bench.sign_in("ben").await.unwrap().access.token;
        let mut bent = Bent::of(&token);
        bent.header["alg"] = json!("HS256");
        let public = bench.keys.keys().signing.private.public();
        let secrets = [public.to_json(), bench.keys.jwks().into_bytes()];
        for secret in secrets {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            let tag = aws_lc_rs::hmac::sign(&key, bent.unsigned().as_bytes());
            let forged = format!("{}.{}", bent.unsigned(), base64(tag));
            assert_eq!(bench.verifier.verify(&forged).unwrap_err(), TokenError::Invalid);
        }
    }
}

#[tokio::test]
async fn a_header_names_no_key_of_its_own_and_no_rule_of_its_own() {
    let (bench, token) = signed_in().await;
    let stranger = PrivateKey::generate(Algorithm::EdDsa).unwrap();
    for (name, value) in [
        ("jwk", serde_json::to_value(stranger.public()).unwrap()),
        ("jku", json!("http://127.0.0.1:9/jwks.json")),
        ("x5u", json!("http://127.0.0.1:9/cert.pem")),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        let mut bent = Bent::of(&token);
        bent.header[name] = value;
        assert_eq!(bench.verifier.verify(&bent.signed(&bench)).unwrap_err(), TokenError::Invalid, "{name}");
        let message = bent.unsigned();
        let forged = format!("{message}.{}", base64(stranger.sign(message.as_bytes()).unwrap()));
        assert_eq!(bench.verifier.verify(&forged).unwrap_err(), TokenError::Invalid, "{name}, forged");
    }
    for kid in ["", "../../etc/passwd", "' OR 1=1 --", &"k".repeat(1000)] {
        let mut bent = Bent::of(&token);
        bent.header["kid"] = json!(kid);
        let refused = bench.verifier.verify(&bent.signed(&bench)).unwrap_err();
        assert_eq!(refused, TokenError::UnknownKey { kid: kid.into() });
    }
    for missing in ["alg", "typ", "kid"] {
        let mut bent = Bent::of(&token);
        bent.header.as_object_mut().unwrap().remove(missing);
        assert_eq!(bench.verifier.verify(&bent.signed(&bench)).unwrap_err(), TokenError::Invalid, "{missing}");
    }
}

#[tokio::test]
async fn a_token_of_another_kind_issuer_or_audience_is_not_for_us() {
    let (bench, token) = signed_in().await;
    for typ in ["JWT", "id_token+jwt", "", "logout+jwt", "at+jwt2"] {
        let mut bent = Bent::of(&token);
        bent.header["typ"] = json!(typ);
        assert_eq!(bench.verifier.verify(&bent.signed(&bench)).unwrap_err(), TokenError::NotForUs, "{typ}");
    }
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        let mut bent = Bent::of(&token);
        bent.header["typ"] = json!(typ);
        assert!(bench.verifier.verify(&bent.signed(&bench)).is_ok(), "{typ}");
    }
    for (name, value) in
        [("iss", json!("http://issuer.tes")), ("iss", json!(format!("{ISSUER}/"))), ("aud", json!("other"))]
    {
        let mut bent = Bent::of(&token);
        bent.claims[name] = value;
        assert_eq!(bench.verifier.verify(&bent.signed(&bench)).unwrap_err(), TokenError::NotForUs, "{name}");
    }
}

#[tokio::test]
async fn claims_that_are_missing_wrong_or_at_odds_are_refused() {
    let (bench, token) = signed_in().await;
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "sid", "tenant", "pv", "roles", "permissions"] {
        let mut bent = Bent::of(&token);
        bent.claims.as_object_mut().unwrap().remove(name);
        assert_eq!(bench.verifier.verify(&bent.signed(&bench)).unwrap_err(), TokenError::Invalid, "{name}");
    }
    for (name, value) in [
        ("sub", json!("ben")),
        ("sub", json!("other/ben")),
        ("sub", json!("default/")),
        ("sub", json!("default/a/b")),
        ("tenant", json!("other")),
        ("tenant", json!("DEFAULT")),
        ("exp", json!("9999999999")),
        ("exp", json!(1e300)),
        ("exp", json!(null)),
        ("sid", json!("short")),
        ("pv", json!("42")),
        ("roles", json!(["A"])),
        ("roles", json!("editor")),
        ("permissions", json!(["a b"])),
        ("aud", json!(["audience", "other"])),
    ] {
        let mut bent = Bent::of(&token);
        bent.claims[name] = value.clone();
        assert_eq!(bench.verifier.verify(&bent.signed(&bench)).unwrap_err(), TokenError::Invalid, "{name} {value}");
    }
    let bent = Bent::of(&token);
    let (header, claims) = (bent.header.to_string(), bent.claims.to_string());
    let twice = claims.replacen('{', r#"{"tenant":"default","#, 1);
    assert_eq!(bench.verifier.verify(&sign_text(&bench, &header, &twice)).unwrap_err(), TokenError::Invalid);
    let twice = header.replacen('{', r#"{"alg":"EdDSA","#, 1);
    assert_eq!(bench.verifier.verify(&sign_text(&bench, &twice, &claims)).unwrap_err(), TokenError::Invalid);
    let more = claims.replacen('{', r#"{"a_claim_of_tomorrow":[1],"#, 1);
    assert!(bench.verifier.verify(&sign_text(&bench, &header, &more)).is_ok());
}

#[tokio::test]
async fn what_is_no_token_is_refused_whatever_it_is() {
    let (bench, token) = signed_in().await;
    for bad in ["", ".", "..", "...", "a.b.c", "{}", "\u{0}", &"a".repeat(1_000_000), &format!("{token}{token}")] {
        assert_eq!(bench.verifier.verify(bad).unwrap_err(), TokenError::Invalid);
    }
    // Every single character altered: no other text is the same token.
    for at in (0..token.len()).step_by(7) {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        assert!(bench.verifier.verify(std::str::from_utf8(&altered).unwrap()).is_err(), "character {at}");
    }
}

#[tokio::test]
async fn time_has_five_seconds_of_leeway() {
    let (bench, token) = signed_in().await;
    let now = bench.clock.now().seconds();
    for (nbf, verdict) in [(now + 5, None), (now + 6, Some(TokenError::NotYet)), (i64::MAX, Some(TokenError::NotYet))] {
        let mut bent = Bent::of(&token);
        bent.claims["nbf"] = json!(nbf);
        assert_eq!(bench.verifier.verify(&bent.signed(&bench)).err(), verdict, "{nbf}");
    }
    let mut bent = Bent::of(&token);
    bent.claims["exp"] = json!(i64::MIN);
    assert_eq!(bench.verifier.verify(&bent.signed(&bench)).unwrap_err(), TokenError::Expired);
    bench.clock.pass(Duration::from_millis(900_000 + 4_999));
    assert!(bench.verifier.verify(&token).is_ok());
    bench.clock.pass(Duration::from_millis(1));
    assert_eq!(bench.verifier.verify(&token).unwrap_err(), TokenError::Expired, "although it is in the cache");
}

#[tokio::test]
async fn a_token_is_verified_once_and_its_freshness_asked_each_time() {
    let (bench, token) = signed_in().await;
    let first = bench.verifier.verify(&token).unwrap();
    assert!(Arc::ptr_eq(&first, &bench.verifier.verify(&token).unwrap()));
    assert!(bench.feed.floors.is_fresh(&first.basis));
    let written = bench.grant("ben", "invoices:delete", None).await;
    let again = bench.verifier.verify(&token).unwrap();
    let needed = bench.applied.stamp_of(written.version).unwrap();
    assert_eq!(bench.feed.floors.freshness(&again.basis), Freshness::Stale { needed });
}

#[tokio::test]
async fn what_is_brought_once_is_not_kept_but_found_where_it_is() {
    let (bench, seen) = signed_in().await;
    let mut bent = Bent::of(&seen);
    bent.claims["jti"] = json!("another");
    let token = bent.signed(&bench);
    let first = bench.verifier.verify_once(&token).unwrap();
    assert!(!Arc::ptr_eq(&first, &bench.verifier.verify_once(&token).unwrap()));
    let kept = bench.verifier.verify(&token).unwrap();
    assert!(Arc::ptr_eq(&kept, &bench.verifier.verify_once(&token).unwrap()));
}

#[tokio::test]
async fn a_signature_that_is_known_to_hold_is_all_that_is_taken_for_granted() {
    let (bench, seen) = signed_in().await;
    let mut bent = Bent::of(&seen);
    bent.claims["jti"] = json!("another");
    let token = bent.signed(&bench);
    for _ in 0..2 {
        bench.verifier.verify_once(&token).unwrap();
    }
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (_, other) = seen.rsplit_once('.').unwrap();
    assert_eq!(bench.verifier.verify_once(&format!("{message}.{other}")).unwrap_err(), TokenError::Invalid);
    bent.claims["sub"] = json!("root");
    let (altered, _) = bent.signed(&bench).rsplit_once('.').map(|(m, s)| (m.to_owned(), s.to_owned())).unwrap();
    assert_eq!(bench.verifier.verify_once(&format!("{altered}.{signature}")).unwrap_err(), TokenError::Invalid);
    bench.clock.pass(TTL + 2 * CLOCK_LEEWAY);
    assert_eq!(bench.verifier.verify_once(&token).unwrap_err(), TokenError::Expired);
}

#[tokio::test]
async fn a_token_of_an_epoch_that_is_not_ours_is_never_fresh_nor_kept() {
    let (bench, token) = signed_in().await;
    let mut bent = Bent::of(&token);
    bent.claims["pv"] = json!("zzzzzzzz.999");
    let token = bent.signed(&bench);
    let verified = bench.verifier.verify(&token).unwrap();
    assert_eq!(verified.basis.stamp(), Stamp::NEVER);
    assert!(!bench.feed.floors.is_fresh(&verified.basis));
    let generation = bench.applied.begin_epoch("zzzzzzzz".parse().unwrap());
    bench.feed.floors.begin_epoch(generation);
    let verified = bench.verifier.verify(&token).unwrap();
    assert!(bench.feed.floors.is_fresh(&verified.basis), "the epoch has begun here, too");
}
