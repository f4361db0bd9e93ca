//! The settings as a command is given them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{Config, Settings};

/// A file and flags.
#[derive(clap::Args)]
pub struct Given {
    /// The settings' file; `permcast.toml` is read if it is there.
    #[arg(long, env = "PERMCAST_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Box<Settings>,
}

impl Given {
    /// Flags over environment over file over defaults, checked as a whole.
    pub fn load(self) -> Result<Config, String> {
        let is_named = self.config.is_some();
        let path = self.config.as_deref().unwrap_or(Path::new("permcast.toml"));
        let written = match std::fs::read_to_string(path) {
            Ok(text) => Settings::from_toml(&text).map_err(|faults| faults.to_string())?,
            Err(error) if !is_named && error.kind() == std::io::ErrorKind::NotFound => Settings::default(),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        Config::new(self.settings.or(written)).map_err(|faults| faults.to_string())
    }
}

/// Says what is wrong; exit code 2.
pub fn refuse(fault: &str) -> ExitCode {
    eprintln!("permcast: {fault}");
    ExitCode::from(2)
}

/// An error and what caused it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
