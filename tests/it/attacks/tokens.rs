//! Access tokens that are not ours, not for us, or not what they seem (RFC 8725).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use super::Scene;
use crate::client::{Client, send};
use crate::harness::{Cluster, ISSUER, Replica};
use crate::provider::{Key, text};
use crate::socket::{Socket, shake};

/// Tries a token at every door of one replica; `what` it is goes into the message. It is a token of the operator's, so
/// whatever believes it gives all away.
async fn is_refused_everywhere(client: &Client, token: &str, what: &str) {
    let bearer = client.bearing(token);
    for (method, path) in [
        (Method::GET, "/v1/me"),
        (Method::GET, "/v1/me/freshness"),
        (Method::GET, "/v1/events"),
        (Method::GET, "/v1/forward-auth?require=invoices:read"),
        (Method::PUT, "/v1/tenants/default/users/cleo/roles/editor"),
        (Method::POST, "/v1/keys/rotate"),
        (Method::POST, "/v1/logout"),
        (Method::POST, "/access/v1/evaluation"),
    ] {
        let answer = send(bearer.request(method, path).json(&json!({}))).await;
        assert_eq!(answer.status, 401, "{what} at {path}: {answer:?}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what} at {path}: {answer:?}");
    }
}

/// The doors that take a token elsewhere than in the header.
async fn is_refused_beside_the_header(client: &Client, checker: &Client, token: &str, what: &str) {
    let told = checker.form("/oauth/introspect", &[("token", token)]).await.ok();
    assert_eq!(told.body, json!({"active": false}), "{what}");
    let fields = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", token),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
    ];
    let exchanged = client.form("/oauth/token", &fields).await;
    assert_eq!((exchanged.status.as_u16(), &exchanged.body["error"]), (400, &json!("invalid_grant")), "{what}");
    let code = if token.len() > 16_000 { 4413 } else { 4401 };
    Socket::open(client).await.refused(token, code).await;
    // As a subprotocol only what is a word of HTTP can come.
    if token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        match shake(client, &[("Sec-WebSocket-Protocol", format!("permcast.v1, bearer.{token}"))]).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 401, "{what}"),
            other => panic!("{what}: {:?}", other.map(|(_, response)| response)),
        }
    }
}

/// The header and claims of a good token, to be bent.
fn parts(token: &str) -> (Value, Value) {
    let part = |index| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap());
    (part(0).unwrap(), part(1).unwrap())
}

fn bent(of: &Value, more: &[(&str, Value)]) -> Value {
    let mut bent = of.clone();
    for (name, value) in more {
        bent[*name] = value.clone();
    }
    bent
}

/// The key that replicas sign with, as whoever has the database has it.
fn stolen_key(cluster: &Cluster) -> Key {
    let row = cluster.sql("SELECT kid || ' ' || hex(private) FROM keys WHERE state = 'current'");
    let (kid, hex) = row.trim().split_once(' ').unwrap();
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    Key::of_pkcs8(kid, bytes.strip_prefix(b"plain:").unwrap())
}

#[tokio::test]
async fn what_is_not_signed_by_us_is_believed_nowhere() {
    let scene = Scene::start().await;
    let client = scene.cluster.b.client();
    let good = client.login("root").await.access;
    let checker = scene.on_b("vera").await;
    let (header, claims) = parts(&good);
    let (kid, stranger) = (header["kid"].as_str().unwrap().to_owned(), Key::new("x"));
    let body = claims.to_string();
    let [head, payload, signature] = [0, 1, 2].map(|n| good.split('.').nth(n).unwrap());
    // Signed by a key of the attacker's, which the header leads to in every way there is.
    let forged = |more: &[(&str, Value)]| stranger.token(&bent(&header, more), &body);
    let unsigned = |alg: &str| format!("{}.{payload}.", text(bent(&header, &[("alg", json!(alg))]).to_string()));
    let es256 = Key::for_algorithm(&kid, "ES256");
    let altered = bent(&claims, &[("permissions", json!(["permcast:operator"])), ("pv", claims["pv"].clone())]);
    let mut last = signature.to_owned();
    // Of the last character two bits are no part of the signature: another text of the same bytes.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last.pop().unwrap()).unwrap();
    last.push(alphabet.as_bytes()[at ^ 1].into());

    let tokens: Vec<(&str, String)> = vec![
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        ("alg NONE", unsigned("NONE")),
        ("no alg", unsigned("")),
        ("alg none, signed", forged(&[("alg", json!("none"))])),
        ("no signature", format!("{head}.{payload}.")),
        ("no third part", format!("{head}.{payload}")),
        ("a signature of nothing", format!("{head}.{payload}.{}", text([0; 64]))),
        ("signed by another", forged(&[])),
        ("with its key in the header", forged(&[("jwk", stranger.jwk())])),
        ("with a place of keys", forged(&[("jku", json!("http://127.0.0.1:9/jwks.json"))])),
        ("with a place of certificates", forged(&[("x5u", json!("http://127.0.0.1:9/cert.pem"))])),
        ("with a certificate", forged(&[("x5c", json!(["MIIB"]))])),
        ("with what must be understood", forged(&[("crit", json!(["exp"]))])),
        ("with a payload that is not encoded", forged(&[("b64", json!(false)), ("crit", json!(["b64"]))])),
        ("compressed", forged(&[("zip", json!("DEF"))])),
        ("encrypted, it says", forged(&[("enc", json!("A256GCM")), ("alg", json!("dir"))])),
        ("a kid that is a path", forged(&[("kid", json!("../../../../dev/null"))])),
        ("a kid that is SQL", forged(&[("kid", json!("' UNION SELECT 'x' --"))])),
        ("a kid that is a command", forged(&[("kid", json!("|/bin/true"))])),
        ("a kid that is a place", forged(&[("kid", json!("http://127.0.0.1:9/key"))])),
        ("an empty kid", forged(&[("kid", json!(""))])),
        ("a kid that is no text", forged(&[("kid", json!([kid]))])),
        ("a kid of nobody", forged(&[("kid", json!(null))])),
        ("a huge kid", forged(&[("kid", json!("k".repeat(8_000)))])),
        ("an unknown algorithm", forged(&[("alg", json!("EdDSB"))])),
        ("another kind's algorithm", es256.token(&bent(&header, &[("alg", json!("ES256"))]), &body)),
        ("another kind's signature", es256.token(&header, &body)),
        ("altered claims", format!("{head}.{}.{signature}", text(altered.to_string()))),
        ("an altered header", format!("{}.{payload}.{signature}", text(bent(&header, &[("x", json!(1))]).to_string()))),
        ("bits that are nobody's", format!("{head}.{payload}.{last}")),
        ("padding", format!("{good}==")),
        ("the other base64", {
            let other = |part: &str| STANDARD.encode(URL_SAFE_NO_PAD.decode(part).unwrap());
            format!("{}.{}.{}", other(head), other(payload), other(signature))
        }),
        ("a fourth part", format!("{good}.")),
        ("five parts", format!("{good}.x.y")),
        ("bytes behind", format!("{good}AAAA")),
        ("a space inside", format!("{head}. {payload}.{signature}")),
        ("JSON instead of compact", json!({"payload": payload, "protected": head, "signature": signature}).to_string()),
        ("cut", good[..good.len() / 2].to_owned()),
        ("doubled", format!("{good}{good}")),
        ("an object in an object", forged(&[("alg", json!({"alg": "EdDSA"}))])),
        ("nothing but dots", "..".to_owned()),
        ("huge", format!("{head}.{}.{signature}", "A".repeat(17_000))),
    ];
    for (what, token) in &tokens {
        is_refused_everywhere(&client, token, what).await;
        is_refused_beside_the_header(&client, &checker, token, what).await;
    }
    scene.is_as_it_was().await;
    client.bearing(&good).get("/v1/me").await.ok();
}

#[tokio::test]
async fn a_genuine_signature_alone_is_not_enough() {
    let scene = Scene::start().await;
    let client = scene.cluster.b.client();
    let good = client.login("root").await.access;
    let checker = scene.on_b("vera").await;
    let (header, claims) = parts(&good);
    let key = stolen_key(&scene.cluster);
    let now = jiff::Timestamp::now().as_second();
    let with = |more: &[(&str, Value)]| key.token(&header, &bent(&claims, more).to_string());
    let headed = |more: &[(&str, Value)]| key.token(&bent(&header, more), &claims.to_string());
    let twice = |what: &str| key.token(&header, &claims.to_string().replacen('{', &format!("{{{what},"), 1));
    let typed = |typ: Value| headed(&[("typ", typ)]);
    client.bearing(&with(&[("jti", json!("mine"))])).get("/v1/me").await.ok();

    let mut tokens: Vec<(String, String)> = Vec::new();
    for (what, token) in [
        ("an ID token", typed(json!("JWT"))),
        ("a logout token", typed(json!("logout+jwt"))),
        ("a proof", typed(json!("dpop+jwt"))),
        ("an event", typed(json!("secevent+jwt"))),
        ("of no type", typed(json!(""))),
        ("of another's type", typed(json!("application/octet-stream;at+jwt"))),
        ("a type that is no text", typed(json!(["at+jwt"]))),
        ("signed, with a key beside", headed(&[("jwk", key.jwk())])),
        ("signed, with what must be understood", headed(&[("crit", json!([]))])),
        ("signed, but says HMAC", headed(&[("alg", json!("HS256"))])),
        ("signed, but says ES256", headed(&[("alg", json!("ES256"))])),
        ("for somebody else", with(&[("aud", json!("https://elsewhere.test"))])),
        ("for us among others", with(&[("aud", json!([ISSUER, "https://elsewhere.test"]))])),
        ("for a part of us", with(&[("aud", json!(&ISSUER[..ISSUER.len() - 1]))])),
        ("of another issuer", with(&[("iss", json!(format!("{ISSUER}/")))])),
        ("of an issuer in capitals", with(&[("iss", json!(ISSUER.to_uppercase()))])),
        ("over", with(&[("exp", json!(now - 6))])),
        ("over, as text", with(&[("exp", json!("99999999999"))])),
        ("over, beyond all numbers", with(&[("exp", json!(1e300))])),
        ("not valid yet", with(&[("nbf", json!(now + 60))])),
        ("another tenant's user", with(&[("sub", json!("acme/root"))])),
        ("another tenant", with(&[("tenant", json!("acme"))])),
        ("of two tenants", with(&[("sub", json!("default/acme/root"))])),
        ("of nobody", with(&[("sub", json!("default/"))])),
        ("a user alone", with(&[("sub", json!("root"))])),
        ("no session", with(&[("sid", json!(""))])),
        ("half of its permissions", with(&[("roles", json!(null))])),
        ("no permissions", with(&[("permissions", json!(["a b"]))])),
        ("of no version", with(&[("pv", json!("1"))])),
        ("twice a user", twice(r#""sub":"default/cleo""#)),
        ("twice a tenant", twice(r#""tenant":"acme""#)),
        ("twice an end", twice(r#""exp":99999999999"#)),
        ("twice its permissions", twice(r#""permissions":[]"#)),
        ("claims that are a list", key.token(&header, "[]")),
        ("claims that are none", key.token(&header, "")),
        ("claims with something behind", key.token(&header, &format!("{claims} {{}}"))),
    ] {
        tokens.push((what.to_owned(), token));
    }
    for claim in ["iss", "sub", "aud", "exp", "iat", "jti", "sid", "tenant", "pv"] {
        let mut without = claims.clone();
        without.as_object_mut().unwrap().remove(claim);
        tokens.push((format!("without {claim}"), key.token(&header, &without.to_string())));
    }
    for (what, token) in &tokens {
        is_refused_everywhere(&client, token, what).await;
        is_refused_beside_the_header(&client, &checker, token, what).await;
    }
    scene.is_as_it_was().await;
    // Of a session that never was: the store knows better than the signature.
    let (ended, other_epoch) = (scene.on_b("ben").await, with(&[("pv", json!("zzzzzzzz.1"))]));
    client.bearing(&other_epoch).get("/v1/me").await.stale();
    ended.get("/v1/me").await.ok();
}

#[tokio::test]
async fn a_public_key_is_no_secret_that_one_could_sign_with() {
    for algorithm in ["EdDSA", "ES256", "RS256"] {
        let directory = tempfile::tempdir().unwrap();
        let settings = [("PERMCAST_TOKEN_ALGORITHM", algorithm)];
        let replica = Replica::start("a", &directory.path().join("permcast.db"), None, &settings).await;
        let client = replica.client();
        let (header, claims) = parts(&client.login("root").await.access);
        assert_eq!(header["alg"], algorithm);
        let shown = client.get("/.well-known/jwks.json").await.ok().body;
        let keys = shown["keys"].as_array().unwrap();
        let jwk = keys.iter().find(|jwk| jwk["kid"] == header["kid"]).unwrap();
        let bytes = |member: &str| URL_SAFE_NO_PAD.decode(jwk[member].as_str().unwrap_or_default()).unwrap();
        // As it is in the document, as it stands in certificates, and bare.
        let secrets = [
            jwk.to_string().into_bytes(),
            shown.to_string().into_bytes(),
            bytes("x"),
            [vec![4], bytes("x"), bytes("y")].concat(),
            bytes("n"),
            jwk["x"].as_str().or(jwk["n"].as_str()).unwrap().as_bytes().to_vec(),
            pem(&[&ED25519_SPKI[..], &bytes("x")].concat()),
            header["kid"].as_str().unwrap().as_bytes().to_vec(),
            Vec::new(),
        ];
        for (alg, digest) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            for secret in &secrets {
                for named in [alg, algorithm] {
                    let header = bent(&header, &[("alg", json!(named))]);
                    let signed = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
                    let tag = hmac::sign(&hmac::Key::new(digest, secret), signed.as_bytes());
                    let answer = client.bearing(&format!("{signed}.{}", text(tag))).get("/v1/me").await;
                    answer.problem(401, "unauthenticated");
                }
            }
        }
        if algorithm == "RS256" {
            let key = Key::for_algorithm(header["kid"].as_str().unwrap(), "RS256");
            let token = key.token(&bent(&header, &[("alg", json!("PS256"))]), &claims.to_string());
            client.bearing(&token).get("/v1/me").await.problem(401, "unauthenticated");
        }
    }
}

/// What stands before the 32 bytes of a key in a SubjectPublicKeyInfo (RFC 8410).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fn pem(der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der)).into_bytes()
}
