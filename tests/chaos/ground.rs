//! Where the processes stand: side by side on one machine's loopback, or each on a host of its own.

use std::sync::Arc;

use tokio::process::Command;

use super::hosts::{self, Host, Hosts};

#[derive(Clone)]
pub(crate) enum Ground {
    Loopback,
    Hosts(Arc<Hosts>),
}

impl Ground {
    /// How a program is started where a host stands for it.
    pub(crate) fn program(&self, host: Host, program: &str) -> impl Fn() -> Command + Send + Sync + use<> {
        let (program, on_host) = (program.to_owned(), matches!(self, Self::Hosts(_)));
        move || if on_host { Command::from(hosts::on(host, &program)) } else { Command::new(&program) }
    }

    pub(crate) fn hosts(&self) -> Option<&Hosts> {
        match self {
            Self::Loopback => None,
            Self::Hosts(hosts) => Some(hosts),
        }
    }
}
