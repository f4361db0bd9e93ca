//! A replica in a process of ours, which says of each change when it was committed: to tell the way of a frame apart from
//! the disk's share.

use std::io::{BufRead as _, Write as _};
use std::net::TcpListener;

use permcast::app::App;
use permcast::config::{Config, Settings};
use permcast::domain::{Boottime, Seq};

/// Serves by the environment. To each line `<first> <last>` it answers a list of nanoseconds, `null` where it has
/// forgotten.
pub fn run() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let variable = |name: &str| std::env::var(format!("PERMCAST_{name}")).ok();
    let settings = Settings {
        database_url: variable("DATABASE_URL"),
        issuer: variable("ISSUER"),
        replica_id: variable("REPLICA_ID"),
        drain_delay: variable("DRAIN_DELAY"),
        bootstrap_user: variable("BOOTSTRAP_USER"),
        bootstrap_password: variable("BOOTSTRAP_PASSWORD"),
        password_memory_kib: Some(super::seed::HASH.0),
        password_iterations: Some(super::seed::HASH.1),
        ..Settings::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = runtime.block_on(App::start(Config::new(settings).unwrap(), listener, None)).unwrap();
    println!("http://{}", app.address());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let (first, last) = line.split_once(' ').expect("two numbers");
        let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
        let nanos = |Boottime(at)| u64::try_from(at.as_nanos()).expect("a machine runs for less than 500 years");
        let learnt = (first..=last).map(|seq| app.propagation().learnt(Seq::new(seq).unwrap()).map(nanos));
        println!("{}", serde_json::to_string(&learnt.collect::<Vec<_>>()).unwrap());
        std::io::stdout().flush().unwrap();
    }
    runtime.block_on(app.stop());
}
