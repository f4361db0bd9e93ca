//! The command line, and nothing else.

use std::net::TcpListener;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use permcast::app::App;
use permcast::cli::{self, Given, chain, refuse};
use permcast::config::DEFAULT_FILE;
use permcast::{demo, lab, telemetry};

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
        #[command(flatten)]
        given: Given,
    },
    /// Run a small company to try things on: two replicas where a nats-server is on the PATH, else one.
    Demo(demo::Options),
    /// Measure what this machine does: decisions, tokens, durable writes, how soon a change arrives.
    ///
    /// Each figure stands beside the floor that the same run measured: the bare disk, the bare network, one signature. It
    /// makes its own databases and removes them; nothing of a deployment is touched.
    Lab(lab::Options),
    #[command(flatten)]
    Operate(cli::Command),
    /// Print the commented default settings.
    Config,
    /// Print the OpenAPI document.
    Openapi,
}

#[tokio::main]
async fn main() -> ExitCode {
    match CommandLine::parse().command {
        Command::Serve { given } => serve(given).await,
        Command::Demo(options) => demo::run(options).await,
        Command::Lab(options) => lab::run(options).await,
        Command::Operate(command) => command.run().await,
        Command::Config => print(DEFAULT_FILE),
        Command::Openapi => print(permcast::http::openapi::DOCUMENT),
    }
}

/// Exit codes: 0 stopped in order, 1 a background task died, 2 it could not start as asked.
async fn serve(given: Given) -> ExitCode {
    let config = match given.load() {
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
    println!("replica {} {}", app.replica(), app.url());
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

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
