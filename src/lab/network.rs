//! How soon a change arrives, beside what the network itself takes.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::LabError;
use super::report::{Group, Row, Times};
use crate::app::App;
use crate::bus::nats;
use crate::canary::Arrival;
use crate::config::{Config, Settings};
use crate::domain::{Clock as _, Epoch, Random};
use crate::runtime::{SystemClock, SystemRandom};

/// About as long as a message of a change.
const MESSAGE: [u8; 200] = [b'x'; 200];
/// Pause between two of a kind, so that each finds everybody asleep, as in life.
const PAUSE: Duration = Duration::from_millis(2);
/// How much longer a first probe may take that comes to something.
const PATIENCE: Duration = Duration::from_secs(10);
/// Probes at the most.
const PROBES_MAX: usize = 2000;

/// From a commit on.
pub(super) async fn arrival(directory: &Path, nats: Option<&str>, period: Duration) -> Result<Group, LabError> {
    let random: &dyn Random = &SystemRandom;
    // Its own deployment, so that nobody else on that broker hears of it.
    let deployment = format!("lab-{}", Epoch::from_random(random.bytes()));
    let config = |replica: &str| {
        Config::new(Settings {
            database_url: Some(format!("sqlite://{}", directory.join("arrival.db").display())),
            nats_url: nats.map(str::to_owned),
            deployment: Some(deployment.clone()),
            replica_id: Some(replica.to_owned()),
            issuer: Some("http://lab.example".to_owned()),
            drain_delay: Some("0s".to_owned()),
            drain_spread: Some("0s".to_owned()),
            ..Settings::default()
        })
    };
    let start = async |replica: &str| -> Result<App, LabError> {
        Ok(App::start(config(replica)?, TcpListener::bind("127.0.0.1:0")?, None).await?)
    };
    let here = start("here").await?;
    let mut rows = Vec::new();
    let arrivals = probes(&here, &here, period).await?;
    let times = |pick: fn(&Arrival) -> Option<Duration>| arrivals.iter().filter_map(pick).collect::<Times>();
    rows.extend(Row::times("commit → applied", &times(|arrival| arrival.applied)));
    rows.extend(Row::times("commit → frame at a client", &times(|arrival| arrival.socket)));
    let there = start("there").await?;
    let arrivals = probes(&here, &there, period).await?;
    let across = arrivals.iter().filter_map(|arrival| arrival.socket).collect();
    let how = if nats.is_some() { "by NATS" } else { "by the log's tail alone" };
    rows.extend(Row::times(&format!("commit → frame at a client of another replica, {how}"), &across));
    here.stop().await;
    there.stop().await;
    rows.extend(Row::times("200 bytes to and fro over loopback", &echo(period).await?).map(Row::into_floor));
    if let Some(url) = nats {
        rows.extend(Row::times("NATS publish → receive", &publish(url, &deployment, period).await?));
    }
    Ok(Group { title: "How soon a change arrives", rows })
}

async fn probes(at: &App, told: &App, period: Duration) -> Result<Vec<Arrival>, LabError> {
    let mut canary = at.canary().clone();
    canary.address = told.address();
    let clock = SystemClock;
    // The first makes the user, and is not measured.
    let (mut made, mut arrivals, mut begun) = (false, Vec::new(), clock.boottime());
    loop {
        // On a machine that is busy otherwise one may come to nothing.
        match canary.probe().await {
            Ok(arrival) if made => arrivals.push(arrival),
            Ok(_) => (made, begun) = (true, clock.boottime()),
            Err(error) if clock.boottime().since(begun) >= period + PATIENCE => return Err(error.into()),
            Err(_) => {}
        }
        let enough = clock.boottime().since(begun) >= period || arrivals.len() >= PROBES_MAX;
        if enough && !arrivals.is_empty() {
            return Ok(arrivals);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn echo(period: Duration) -> Result<Times, LabError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let mut message = MESSAGE;
        // Until the other side has gone.
        while stream.read_exact(&mut message).await.is_ok() {
            stream.write_all(&message).await?;
        }
        Ok::<_, std::io::Error>(())
    });
    let (clock, mut stream) = (SystemClock, TcpStream::connect(address).await?);
    stream.set_nodelay(true)?;
    let (mut times, begun, mut message) = (Vec::new(), clock.boottime(), MESSAGE);
    while clock.boottime().since(begun) < period {
        let one = clock.boottime();
        stream.write_all(&message).await?;
        stream.read_exact(&mut message).await?;
        times.push(clock.boottime().since(one));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times.into_iter().collect())
}

async fn publish(url: &str, deployment: &str, period: Duration) -> Result<Times, LabError> {
    let config = Config::new(Settings { nats_url: Some(url.to_owned()), ..Settings::default() })?;
    let Some(broker) = &config.nats else { return Ok(Times::default()) };
    let (hears, says) = (nats::connect_once(broker).await?, nats::connect_once(broker).await?);
    let subject = format!("permcast.v1.{deployment}.lab");
    let mut heard = hears.subscribe(subject.clone()).await.map_err(|_| LabError::Broker)?;
    hears.flush().await.map_err(|_| LabError::Broker)?;
    let (clock, mut times) = (SystemClock, Vec::new());
    let begun = clock.boottime();
    while clock.boottime().since(begun) < period {
        let one = clock.boottime();
        says.publish(subject.clone(), MESSAGE.to_vec().into()).await.map_err(|_| LabError::Broker)?;
        let received = tokio::time::timeout(Duration::from_secs(5), heard.next()).await;
        received.ok().flatten().ok_or(LabError::Broker)?;
        times.push(clock.boottime().since(one));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times.into_iter().collect())
}
