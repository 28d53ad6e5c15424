//! `make bench`: Mothball beside what a user would do instead, on the same containers, in one run.
//!
//! | room | what is in it |
//! |---|---|
//! | [`args`] | what may be asked for |
//! | [`workload`] | what lies in the containers |
//! | [`rivals`] | each way to save a container and to launch it again |
//! | [`rig`] | the private servers, and Mothball as a process |
//! | [`contest`] | who does what, in which order |
//! | [`measure`] | what one save or launch costs, seen from outside |
//! | [`limits`] | what this machine can do at best |
//! | [`report`] | medians, ratios, goals; as Markdown, as SVG, as JSON |
//!
//! Everything that is started is private and gone at the end, however the end comes: the harness's keepers see to it.

mod args;
mod contest;
mod limits;
mod measure;
mod report;
mod rig;
mod rivals;
mod workload;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use args::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    match bench(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("the benchmark did not end: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &Args) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the benchmark needs root: Docker Engine and the direct engine do"
    );
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let report = runtime.block_on(until_told_to_stop(contest::run(args)))?;
    say(&format!("\n{}", report.markdown()));
    report.write(&args.out)?;
    report.failure.map_or(Ok(()), |failure| bail!(failure))
}

/// A signal drops the run where it stands, and with it every server it has started; each drop waits for the end.
async fn until_told_to_stop<T>(run: impl Future<Output = Result<T>>) -> Result<T> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    tokio::select! {
        done = run => done,
        _ = interrupt.recv() => bail!("interrupted; what was started is stopped"),
        _ = terminate.recv() => bail!("told to stop; what was started is stopped"),
    }
}

/// Tells whoever waits where the run is. A closed terminal is no reason to end.
fn say(line: &str) {
    let _closed = writeln!(std::io::stdout(), "{line}");
}
