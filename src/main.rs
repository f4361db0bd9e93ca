//! The command line, and nothing else.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use permcast::app::App;
use permcast::config::{Config, DEFAULT_FILE, Settings};
use permcast::{demo, telemetry};

/// Permission changes that reach every token, cache and browser tab in milliseconds.
#[derive(Parser)]
#[command(version, about, max_term_width = 110)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one replica.
    ///
    /// Flags win over the environment, the environment over the file, the file over the defaults.
    Serve {
        /// The settings' file; `permcast.toml` is read if it is there.
        #[arg(long, env = "PERMCAST_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Run a small company to try things on: two replicas where a nats-server is on the PATH, else one.
    Demo(demo::Options),
    /// Print the commented default settings.
    Config,
}

#[tokio::main]
async fn main() -> ExitCode {
    match CommandLine::parse().command {
        Command::Serve { config, settings } => serve(config.as_deref(), *settings).await,
        Command::Demo(options) => demo::run(options).await,
        Command::Config => print(DEFAULT_FILE),
    }
}

/// Exit codes: 0 stopped in order, 1 a background task died, 2 it could not start as asked.
async fn serve(file: Option<&Path>, flags: Settings) -> ExitCode {
    let config = match load(file, flags) {
        Ok(config) => config,
        Err(fault) => return refuse(&fault),
    };
    telemetry::log(&config.log, config.log_format);
    let listener = match TcpListener::bind(config.listen) {
        Ok(listener) => listener,
        Err(error) => return refuse(&format!("cannot listen on {}: {error}", config.listen)),
    };
    let app = match App::start(config, listener, None).await {
        Ok(app) => app,
        Err(error) => return refuse(&chain(&error)),
    };
    println!("replica {} http://{}", app.replica(), app.address());
    tokio::select! {
        () = permcast::runtime::stop_signal() => {}
        () = app.failed() => {}
    }
    match app.stop().await {
        None => ExitCode::SUCCESS,
        Some(task) => {
            eprintln!("permcast: stopped because the task {task:?} ended");
            ExitCode::FAILURE
        }
    }
}

fn load(file: Option<&Path>, flags: Settings) -> Result<Config, String> {
    let named = file.is_some();
    let path = file.unwrap_or(Path::new("permcast.toml"));
    let written = match std::fs::read_to_string(path) {
        Ok(text) => Settings::from_toml(&text).map_err(|faults| faults.to_string())?,
        Err(error) if !named && error.kind() == std::io::ErrorKind::NotFound => Settings::default(),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    Config::new(flags.or(written)).map_err(|faults| faults.to_string())
}

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn refuse(fault: &str) -> ExitCode {
    eprintln!("permcast: {fault}");
    ExitCode::from(2)
}

/// An error and what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
