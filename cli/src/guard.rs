//! The hidden subcommand `guard`: the other end of a worker's freeze.

use crate::config::LogFormat;
use crate::exit::Fail;
use clap::Args;
use mothball_worker::guard::{GuardPost, run_guard};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    /// Docker's address.
    #[arg(long)]
    docker_host: String,
    /// The container's Docker id.
    #[arg(long)]
    container: String,
    /// The directory of the node's locks.
    #[arg(long)]
    locks_dir: PathBuf,
}

pub(crate) async fn run(args: GuardArgs) -> Result<(), Fail> {
    crate::telemetry::start(LogFormat::Text, "warn")?;
    let post =
        GuardPost { docker_host: args.docker_host, docker_id: args.container, locks_dir: args.locks_dir };
    run_guard(&post).await.map_err(|e| Fail::from(anyhow::Error::new(e)))
}
