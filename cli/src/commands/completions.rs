//! `mothball completions`.

use super::Cli;
use crate::output::say;
use clap::{Args, Command, CommandFactory};
use clap_complete::{Shell, generate};

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) {
    let mut script = Vec::new();
    generate(args.shell, &mut visible(&Cli::command()), "mothball", &mut script);
    say(String::from_utf8_lossy(&script));
}

/// The commands that people use: the generator would offer the hidden ones, too.
fn visible(all: &Command) -> Command {
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    Command::new("mothball").args(all.get_arguments().cloned()).subcommands(shown)
}
