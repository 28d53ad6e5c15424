//! `mothball`: one binary for every role of the server and for its users.
//!
//! | room | what is in it |
//! |---|---|
//! | [`commands`] | the command line, one file per noun |
//! | [`config`] | defaults, file, environment: typed and checked |
//! | [`serve`] | the wiring: the only place that knows which roles run here |
//! | [`doctor`] | checks of everything that the server needs |
//! | [`client`] | the server over HTTP |
//! | [`wait`] | following a job to its end |
//! | [`output`] | tables, JSON, numbers for people |
//! | [`exit`] | sentences and exit codes |

mod client;
mod commands;
mod config;
mod context;
mod doctor;
mod exit;
mod guard;
mod output;
mod serve;
mod telemetry;
mod wait;

use clap::Parser;
use commands::Cli;
use context::Context;
use exit::Fail;
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap itself ends the process with 2 where it cannot understand the command.
    let cli = Cli::parse();
    let cx = Context { global: cli.global, environment: environment() };
    match run(cli.command, &cx) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fail) => {
            output::tell(output::clean(&fail.to_string()));
            ExitCode::from(fail.code as u8)
        }
    }
}

fn run(command: commands::Command, cx: &Context) -> Result<(), Fail> {
    // Fails only where a provider is there already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Fail::failed(format!("start the runtime: {e}")))?;
    let done = runtime.block_on(command.run(cx));
    // A thread that still waits for the terminal or a slow server must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    done
}

/// The environment, read once: everything else gets it handed.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
