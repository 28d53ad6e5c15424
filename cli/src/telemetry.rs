//! Logs: events of this process to standard error, as text for people or as JSON for machines.

use crate::config::LogFormat;
use crate::exit::Fail;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts to log. Called once, by `serve` and by the guard.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<(), Fail> {
    let filter = EnvFilter::try_new(filter).map_err(|e| {
        Fail::usage(format!("log.filter {filter:?} cannot be read: {e}"))
            .hint("write a level, or levels by target, as in \"info,mothball_worker=debug\"")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|e| Fail::failed(format!("start logging: {e}")))
}
