//! `mothball config`.

use crate::config;
use crate::context::Context;
use crate::exit::Fail;
use crate::output::{json, say};
use clap::Args;
use std::path::PathBuf;

/// Where a server's configuration is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file (TOML).
    #[arg(short, long, value_name = "FILE", env = "MOTHBALL_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads the configuration.
    pub(crate) fn load(&self, cx: &Context) -> Result<config::Settings, Fail> {
        let file = self.config.as_deref().filter(|path| !path.as_os_str().is_empty());
        Ok(config::load(file, &cx.environment)?)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Prints the built-in defaults instead: every key, with what it does.
    #[arg(long)]
    defaults: bool,
}

pub(crate) fn run(args: &ConfigArgs, cx: &Context) -> Result<(), Fail> {
    if args.defaults {
        say(config::DEFAULTS);
        return Ok(());
    }
    let settings = args.file.load(cx)?;
    if cx.is_json() {
        return json(&settings);
    }
    let text = toml::to_string_pretty(&settings).map_err(|e| Fail::failed(format!("write TOML: {e}")))?;
    say(text);
    Ok(())
}
