//! Configuration: the built-in defaults, a file, the environment; typed and checked before anything starts.

mod check;
mod duration;
mod env;
mod keys;
mod secret;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use check::is_key_shaped;
pub(crate) use settings::{GpuRequest, Gpus, LogFormat, Settings, SmtpTls, Snapshot};

use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::{Figment, Metadata, Provider};
use keys::Schema;
use std::path::Path;

/// The built-in defaults, which are also their documentation.
pub(crate) const DEFAULTS: &str = include_str!("defaults.toml");

/// Why a configuration cannot be used. No variant ever holds a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration {path}: {reason}")]
    File { path: String, reason: String },
    #[error("{path}: unknown key `{key}`{}", did_you_mean(.meant.as_deref()))]
    UnknownKey { path: String, key: String, meant: Option<String> },
    #[error("unknown environment variable {name}{}", did_you_mean(.meant.as_deref()))]
    UnknownVariable { name: String, meant: Option<String> },
    #[error("{key} cannot be used: {problem} (in {place})")]
    Value { key: String, problem: String, place: String },
    #[error("{key} cannot be used: {problem}\nhint: {hint}")]
    Refused { key: String, problem: String, hint: String },
    #[error("the built-in defaults cannot be read: {0}")]
    Defaults(String),
}

fn did_you_mean(meant: Option<&str>) -> String {
    meant.map_or_else(
        || "; `mothball config --defaults` lists every key".to_owned(),
        |meant| format!("; did you mean `{meant}`?"),
    )
}

/// Reads the configuration: defaults, then `file`, then the variables of `environment`.
pub(crate) fn load(file: Option<&Path>, environment: &[(String, String)]) -> Result<Settings, ConfigError> {
    let defaults = Figment::from(Named("the built-in defaults".to_owned(), Toml::string(DEFAULTS)));
    let built_in: Settings = defaults.extract().map_err(|e| ConfigError::Defaults(e.to_string()))?;
    let schema = Schema::of(&built_in);
    let mut layers = defaults;
    if let Some(path) = file {
        let shown = path.display().to_string();
        let table = read(path, &shown)?;
        if let Some(key) = schema.first_unknown(&table) {
            return Err(ConfigError::UnknownKey { path: shown, meant: schema.nearest(&key), key });
        }
        layers = layers.merge(Named(shown, Serialized::defaults(table)));
    }
    let variables = env::layer(&schema, environment)?;
    layers = layers.merge(Named("the environment".to_owned(), Serialized::defaults(variables)));
    let mut settings: Settings = layers.extract().map_err(value_error)?;
    settings.worker.node.get_or_insert_with(host_name);
    check::check(&settings)?;
    Ok(settings)
}

fn read(path: &Path, shown: &str) -> Result<toml::Table, ConfigError> {
    let failed = |reason: String| ConfigError::File { path: shown.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    // The parser's long form repeats the line, in which a password may stand.
    text.parse::<toml::Table>().map_err(|e| {
        let line = e.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        failed(format!("line {}: {}", line.unwrap_or(1), e.message()))
    })
}

/// The first thing that is wrong, with its key and where it was written. Of secrets only the key is said: figment's
/// sentence would repeat the value.
fn value_error(error: figment::Error) -> ConfigError {
    let key = error.path.join(".");
    let place =
        error.metadata.as_ref().map_or_else(|| "the configuration".to_owned(), |m| m.name.to_string());
    let secret = ["api.admin_key", "store.url", "queue.url"].contains(&key.as_str());
    let problem = match error.kind {
        _ if secret => "it must be a text".to_owned(),
        Kind::MissingField(name) => format!("`{name}` is missing"),
        kind => kind.to_string(),
    };
    let key = if key.is_empty() { "the configuration".to_owned() } else { key };
    ConfigError::Value { key, problem, place }
}

/// This machine's name, without its domain when it is too long for a node's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    match name.split_once('.') {
        Some((short, _)) if name.len() > 63 => short.to_owned(),
        _ => name.to_owned(),
    }
}

/// A layer with a name that people understand.
struct Named<P>(String, P);

impl<P: Provider> Provider for Named<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0.clone())
    }

    fn data(&self) -> Result<figment::value::Map<figment::Profile, figment::value::Dict>, figment::Error> {
        self.1.data()
    }
}
