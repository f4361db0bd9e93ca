//! What tokens cost: their sizes, verifying them for the first time and again, refreshing, and what a flood of sign-ins
//! does to decisions; beside the bare signature and its verification.
//!
//! `cargo bench --bench tokens [seconds per row of the table]`

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use hdrhistogram::Histogram;
use permcast::app::App;
use permcast::config::{Config, Settings};
use permcast::domain::{
    Access, Applied, Change, Clock, Epoch, Floors, Grant, PermissionSet, Random, RoleName, Seq, SessionId, TenantName,
    Version,
};
use permcast::runtime::{SystemClock, SystemRandom};
use permcast::store::sqlite::SqliteStore;
use permcast::store::{CommitListener, Store, StoreOptions};
use permcast::token::{Algorithm, KeySet, Mint, Snapshot, TokenPermissions, TokenSettings, Vault, Verifier};

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

const PASSWORD: &str = "a bench password";
const TOKENS: usize = 10_000;

struct Deaf;

impl CommitListener for Deaf {
    fn committed(&self, _: Epoch, _: &[Change]) {}
}

#[tokio::main]
async fn main() -> Anyhow<()> {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(12);
    let directory = tempfile::tempdir_in(".")?;
    sizes_and_verification(&directory.path().join("keys.db")).await?;
    let (app, base) = replica(&directory.path().join("rest.db")).await?;
    refreshes(&base, Duration::from_secs(seconds)).await?;
    flood(&base, Duration::from_secs(seconds)).await?;
    app.stop().await;
    Ok(())
}

/// The middle one of several rounds, in nanoseconds a piece.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn nanos(pieces: usize, mut round: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..7)
        .map(|_| {
            let begun = Instant::now();
            round();
            begun.elapsed().as_nanos() as f64 / pieces as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

async fn sizes_and_verification(path: &std::path::Path) -> Anyhow<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let options = StoreOptions {
        id_rest: Duration::from_hours(720),
        refresh_grace: Duration::from_secs(10),
        deadline: Duration::from_secs(10),
        listener: Arc::new(Deaf),
    };
    let address = path.to_str().ok_or("the path is no text")?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(address, options, Arc::clone(&clock), &SystemRandom).await?);
    println!("{:<52} {:>10} {:>10} {:>10}", "bytes of a token", "EdDSA", "ES256", "RS256");
    let mut columns = Vec::new();
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        // Each over keys of its own.
        let path = path.with_extension(algorithm.as_str());
        let options = StoreOptions {
            id_rest: Duration::from_hours(720),
            refresh_grace: Duration::from_secs(10),
            deadline: Duration::from_secs(10),
            listener: Arc::new(Deaf),
        };
        let address = path.to_str().ok_or("the path is no text")?;
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(address, options, Arc::clone(&clock), &SystemRandom).await?);
        let mint = mint(store, algorithm, &clock, &random).await?.0;
        columns.push([0, 10, 100, 1000].map(|count| {
            let minted = mint.mint(&snapshot(count, 0)).ok()?;
            // One that no reader would take became thin.
            (count == 0 || !minted.thin).then_some(minted.token.len())
        }));
    }
    for (row, what) in ["thin", "10 permissions", "100 permissions", "1,000 permissions"].iter().enumerate() {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| column[row].as_ref().map_or("-".to_owned(), ToString::to_string))
            .map(|cell| format!("{cell:>10}"))
            .collect();
        println!("{what:<52} {}", cells.join(" "));
    }

    let (mint, keys, settings) = mint(store, Algorithm::EdDsa, &clock, &random).await?;
    let tokens: Vec<String> = (0..TOKENS)
        .map(|number| mint.mint(&snapshot(10, u16::try_from(number).unwrap_or(0))).map(|minted| minted.token))
        .collect::<Result<_, _>>()?;
    let floors = Arc::new(Floors::new(7, 1_000_000));
    let applied = Arc::new(Applied::new(epoch()));
    let verifier =
        || Verifier::new(Arc::clone(&keys), Arc::clone(&floors), Arc::clone(&applied), Arc::clone(&clock), &settings);
    let pair = Ed25519KeyPair::generate()?;
    let signature = pair.sign(tokens[0].as_bytes());
    let public = ParsedPublicKey::new(&ED25519, pair.public_key().as_ref())?;
    let bare = nanos(1_000, || {
        for _ in 0..1_000 {
            black_box(public.verify_sig(tokens[0].as_bytes(), signature.as_ref())).expect("it is ours");
        }
    });
    let signing = nanos(1_000, || {
        for _ in 0..1_000 {
            black_box(pair.sign(tokens[0].as_bytes()));
        }
    });
    let cold = nanos(TOKENS, || {
        let fresh = verifier();
        for token in &tokens {
            black_box(fresh.verify(token)).expect("it is ours");
        }
    });
    let warm = verifier();
    for token in &tokens {
        warm.verify(token)?;
    }
    let again = nanos(TOKENS, || {
        for token in &tokens {
            let verified = warm.verify(token).expect("it is ours");
            assert!(black_box(floors.is_fresh(&verified.basis)));
        }
    });
    let one = nanos(TOKENS, || {
        for _ in 0..TOKENS {
            let verified = warm.verify(&tokens[0]).expect("it is ours");
            assert!(black_box(floors.is_fresh(&verified.basis)));
        }
    });
    println!("\n{:<52} {:>10}", "one core", "ns");
    println!("{:<52} {bare:>10.0}", "a signature verified (Ed25519, the floor)");
    println!("{:<52} {cold:>10.0}", "a token verified for the first time");
    println!("{:<52} {again:>10.0}", "again, one of 10,000, with its floors");
    println!("{:<52} {one:>10.0}", "again, always the same, with its floors");
    println!("{:<52} {signing:>10.0}", "a signature made (Ed25519)");
    Ok(())
}

fn epoch() -> Epoch {
    "aaaaaaaa".parse().expect("eight letters")
}

fn snapshot(permissions: usize, number: u16) -> Snapshot {
    let names = |prefix: &str| -> BTreeSet<Grant> {
        (0..permissions).map(|n| format!("{prefix}{n}:read").parse().expect("it is a permission")).collect()
    };
    let grants: Vec<Grant> = names("invoices").into_iter().collect();
    let roles: Vec<RoleName> = if permissions == 0 { Vec::new() } else { vec!["editor".parse().expect("a name")] };
    let access = Access {
        tenant: TenantName::first(),
        user: format!("user{number}").parse().expect("it is a user's id"),
        roles: roles.into(),
        permissions: Arc::new(grants.into_iter().collect::<PermissionSet>()),
        first_expiry: None,
    };
    Snapshot {
        access: Arc::new(access),
        session: SessionId::from_random([7; 16]),
        session_expires_at: SystemClock.now().plus(Duration::from_hours(720)),
        version: Version { epoch: epoch(), seq: Seq::ZERO },
        client_id: "permcast".to_owned(),
    }
}

async fn mint(
    store: Arc<dyn Store>,
    algorithm: Algorithm,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Anyhow<(Mint, Arc<KeySet>, TokenSettings)> {
    let ttl = Duration::from_mins(15);
    let vault = Arc::new(Vault::plain());
    let keys = KeySet::open(store, vault, algorithm, ttl, Arc::clone(clock), Arc::clone(random)).await?;
    let keys = Arc::new(keys);
    let settings = TokenSettings {
        issuer: "https://permcast.example.org".into(),
        audience: "https://api.example.org".into(),
        ttl,
        permissions: TokenPermissions::Claims,
    };
    let mint = Mint::new(Arc::clone(&keys), settings.clone(), Arc::clone(clock), Arc::clone(random));
    Ok((mint, keys, settings))
}

async fn replica(path: &std::path::Path) -> Anyhow<(App, String)> {
    let settings = Settings {
        database_url: Some(format!("sqlite://{}", path.display())),
        bootstrap_user: Some("ada".into()),
        bootstrap_password: Some(PASSWORD.into()),
        refresh_budget: Some(1_000_000),
        drain_delay: Some("0s".into()),
        ..Settings::default()
    };
    let app = App::start(Config::new(settings)?, std::net::TcpListener::bind("127.0.0.1:0")?, None).await?;
    let base = format!("http://{}", app.address());
    Ok((app, base))
}

async fn sign_in(http: &reqwest::Client, base: &str) -> reqwest::Result<serde_json::Value> {
    let login = serde_json::json!({ "username": "ada", "password": PASSWORD });
    http.post(format!("{base}/v1/login")).json(&login).send().await?.json().await
}

/// Sixteen sessions that refresh without a pause. Within ten seconds of its issue a refresh token answers itself; after that
/// the answer is a new one, and a durable write.
async fn refreshes(base: &str, period: Duration) -> Anyhow<()> {
    let http = reqwest::Client::new();
    let mut tasks = tokio::task::JoinSet::new();
    let mut sessions = Vec::new();
    for _ in 0..16 {
        sessions.push(sign_in(&http, base).await?["refresh_token"].as_str().ok_or("no refresh token")?.to_owned());
    }
    let begun = Instant::now();
    for mut token in sessions {
        let (http, url) = (http.clone(), format!("{base}/oauth/token"));
        tasks.spawn(async move {
            let (mut count, mut rotated) = (0_u32, 0_u32);
            while begun.elapsed() < period {
                let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
                let answer = http.post(&url).form(&form).send().await.expect("the replica answers");
                let answer: serde_json::Value = answer.json().await.expect("it answers in JSON");
                let next = answer["refresh_token"].as_str().expect("it refreshes").to_owned();
                rotated += u32::from(next != token);
                token = next;
                count += 1;
            }
            (count, rotated)
        });
    }
    let (mut count, mut rotated) = (0, 0);
    while let Some(own) = tasks.join_next().await {
        let own = own?;
        (count, rotated) = (count + own.0, rotated + own.1);
    }
    let rate = f64::from(count) / begun.elapsed().as_secs_f64();
    println!("\n{:<52} {rate:>10.0}", format!("refreshes a second over HTTP ({rotated} of {count} rotated)"));
    Ok(())
}

/// Decisions beside nobody, and beside 32 who try passwords without a pause.
async fn flood(base: &str, period: Duration) -> Anyhow<()> {
    println!("\n{:<52} {:>10} {:>10} {:>10}", "decisions over HTTP, four at a time", "a second", "p50 µs", "p99 µs");
    let http = reqwest::Client::new();
    let token = sign_in(&http, base).await?["access_token"].as_str().ok_or("no token")?.to_owned();
    for (what, guessers) in [("quiet", 0), ("beside 32 who sign in without a pause", 32)] {
        let begun = Instant::now();
        let mut others = tokio::task::JoinSet::new();
        for number in 0..guessers {
            let (http, base) = (http.clone(), base.to_owned());
            others.spawn(async move {
                let body = serde_json::json!({ "username": format!("nobody{number}"), "password": "wrong" });
                while begun.elapsed() < period {
                    let _ = http.post(format!("{base}/v1/login")).json(&body).send().await;
                }
            });
        }
        let mut deciders = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (http, token) = (http.clone(), token.clone());
            let url = format!("{base}/v1/forward-auth?require=permcast:operator");
            deciders.spawn(async move {
                let mut times = Histogram::<u64>::new(3).expect("three digits are allowed");
                while begun.elapsed() < period {
                    let one = Instant::now();
                    let answer = http.get(&url).bearer_auth(&token).send().await.expect("the replica answers");
                    assert!(answer.status().is_success());
                    times.record(u64::try_from(one.elapsed().as_micros()).unwrap_or(u64::MAX)).expect("not an age");
                }
                times
            });
        }
        let mut times = Histogram::<u64>::new(3)?;
        while let Some(own) = deciders.join_next().await {
            times.add(own?)?;
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
        let (p50, p99) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
        println!("{what:<52} {rate:>10.0} {p50:>10} {p99:>10}");
        while others.join_next().await.is_some() {}
    }
    Ok(())
}
