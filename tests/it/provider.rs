//! An identity provider that can also misbehave: discovery and keys over loopback, and tokens of any kind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Whom its tokens are for.
pub(crate) const AUDIENCE: &str = "https://api.test";

/// A key of the provider's.
pub(crate) struct Key {
    kid: String,
    pair: Pair,
}

enum Pair {
    EdDsa(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Es384(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
}

pub(crate) fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    pub(crate) fn new(kid: &str) -> Self {
        Self::for_algorithm(kid, "EdDSA")
    }

    pub(crate) fn for_algorithm(kid: &str, algorithm: &str) -> Self {
        let pair = match algorithm {
            "EdDSA" => Pair::EdDsa(Ed25519KeyPair::generate().unwrap()),
            "ES256" => Pair::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            "ES384" => Pair::Es384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
            _ => Pair::Rsa(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap()),
        };
        Self { kid: kid.to_owned(), pair }
    }

    /// One of Ed25519 that somebody else made.
    pub(crate) fn of_pkcs8(kid: &str, bytes: &[u8]) -> Self {
        Self { kid: kid.to_owned(), pair: Pair::EdDsa(Ed25519KeyPair::from_pkcs8(bytes).unwrap()) }
    }

    /// As its document shows it.
    pub(crate) fn jwk(&self) -> Value {
        let kid = &self.kid;
        let point = |curve: &str, pair: &EcdsaKeyPair| {
            let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
            json!({"kty": "EC", "crv": curve, "kid": kid, "use": "sig", "x": text(x), "y": text(y)})
        };
        match &self.pair {
            Pair::EdDsa(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": text(pair.public_key())})
            }
            Pair::Es256(pair) => point("P-256", pair),
            Pair::Es384(pair) => point("P-384", pair),
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                json!({"kty": "RSA", "kid": kid, "use": "sig",
                    "n": text(n.big_endian_without_leading_zero()), "e": text(e.big_endian_without_leading_zero())})
            }
        }
    }

    fn sign(&self, message: &[u8], algorithm: &str) -> Vec<u8> {
        match &self.pair {
            Pair::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Es256(pair) | Pair::Es384(pair) => {
                pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding =
                    if algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                pair.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token with exactly this header and these claims.
    pub(crate) fn token(&self, header: &Value, claims: &str) -> String {
        let signed = format!("{}.{}", text(header.to_string()), text(claims));
        let signature = self.sign(signed.as_bytes(), header["alg"].as_str().unwrap_or_default());
        format!("{signed}.{}", text(signature))
    }
}

/// How it answers.
#[derive(Clone)]
pub(crate) enum Mode {
    Well,
    /// Not at all.
    Never,
    Status(u16),
    RedirectTo(String),
    /// With so many bytes too many.
    Padded(usize),
    /// By sending for the keys to another place.
    KeysAt(String),
    /// In another's name.
    As(String),
}

struct State {
    mode: Mutex<Mode>,
    keys: Mutex<Vec<Value>>,
    documents: AtomicUsize,
}

/// A running provider; gone with the test.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    pub(crate) key: Key,
    state: Arc<State>,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        Self::start_for("EdDSA").await
    }

    pub(crate) async fn start_for(algorithm: &str) -> Self {
        Self::start_by(algorithm, None, "127.0.0.1").await
    }

    /// One that is asked by https, as this host.
    pub(crate) async fn start_secure(tls: TlsAcceptor, host: &str) -> Self {
        Self::start_by("EdDSA", Some(tls), host).await
    }

    async fn start_by(algorithm: &str, tls: Option<TlsAcceptor>, host: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let issuer = format!("{scheme}://{host}:{}", listener.local_addr().unwrap().port());
        let key = Key::for_algorithm("k1", algorithm);
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Well),
            keys: Mutex::new(vec![key.jwk()]),
            documents: AtomicUsize::new(0),
        });
        let (served, name) = (Arc::clone(&state), issuer.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, name, tls) = (Arc::clone(&served), name.clone(), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(stream, state, name).await };
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, state, name).await;
                    }
                });
            }
        });
        Self { issuer, key, state }
    }

    pub(crate) fn behave(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    pub(crate) fn show(&self, keys: &[Value]) {
        *self.state.keys.lock().unwrap() = keys.to_vec();
    }

    /// How many documents it was asked for.
    pub(crate) fn asked(&self) -> usize {
        self.state.documents.load(Ordering::SeqCst)
    }

    /// As the settings name it.
    pub(crate) fn settings(&self, more: &Value) -> Value {
        let mut settings = json!({"issuer": self.issuer, "audiences": [AUDIENCE]});
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        settings
    }

    /// The claims of a good token.
    pub(crate) fn claims(&self, subject: &str) -> Value {
        let now = jiff::Timestamp::now().as_second();
        json!({"iss": self.issuer, "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + 3600, "jti": subject})
    }

    pub(crate) fn token(&self, subject: &str) -> String {
        self.token_with(subject, &json!({}))
    }

    /// A good token but for these claims; `null` takes one away.
    pub(crate) fn token_with(&self, subject: &str, more: &Value) -> String {
        let mut claims = self.claims(subject);
        for (name, value) in more.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        self.key.token(&header(&self.key), &claims.to_string())
    }
}

/// The header of a good token.
pub(crate) fn header(key: &Key) -> Value {
    let algorithm = match &key.pair {
        Pair::EdDsa(_) => "EdDSA",
        Pair::Es256(_) => "ES256",
        Pair::Es384(_) => "ES384",
        Pair::Rsa(_) => "RS256",
    };
    json!({"alg": algorithm, "typ": "JWT", "kid": key.kid})
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>, issuer: String) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        lines.push(line);
    }
    state.documents.fetch_add(1, Ordering::SeqCst);
    let is_keys = lines[0].starts_with("GET /jwks ");
    let mode = state.mode.lock().unwrap().clone();
    let keys_at = match &mode {
        Mode::KeysAt(place) => place.clone(),
        _ => format!("{issuer}/jwks"),
    };
    let name = match &mode {
        Mode::As(name) => name.clone(),
        _ => issuer,
    };
    let body = if is_keys {
        json!({"keys": *state.keys.lock().unwrap()}).to_string()
    } else {
        json!({"issuer": name, "jwks_uri": keys_at}).to_string()
    };
    let (head, body) = match mode {
        Mode::Never => return std::future::pending().await,
        Mode::Status(status) => (format!("HTTP/1.1 {status} No\r\n"), String::new()),
        Mode::RedirectTo(place) => (format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\n"), String::new()),
        Mode::Padded(bytes) => ("HTTP/1.1 200 OK\r\n".to_owned(), format!("{body}{}", " ".repeat(bytes))),
        Mode::Well | Mode::KeysAt(_) | Mode::As(_) => ("HTTP/1.1 200 OK\r\n".to_owned(), body),
    };
    let answer = format!("{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let _ = stream.get_mut().write_all(answer.as_bytes()).await;
    let _ = stream.get_mut().shutdown().await;
}
