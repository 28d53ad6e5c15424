//! `mothball completions`.

use super::Cli;
use crate::output::say;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "mothball", &mut script);
    say(String::from_utf8_lossy(&script));
}
