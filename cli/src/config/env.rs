//! The environment as a layer of configuration: `MOTHBALL_WORKER__CONCURRENCY=4` is `worker.concurrency`.

use super::ConfigError;
use super::keys::Schema;
use serde_json::Value;

/// What every variable of ours begins with.
const PREFIX: &str = "MOTHBALL_";

/// Variables that the user commands read, which are no settings of a server.
const OF_COMMANDS: [&str; 4] = ["MOTHBALL_URL", "MOTHBALL_API_KEY", "MOTHBALL_PROJECT", "MOTHBALL_CONFIG"];

/// Builds the layer. A text stays a text where the setting is one: a node may be called "7".
pub(crate) fn layer(schema: &Schema, environment: &[(String, String)]) -> Result<toml::Table, ConfigError> {
    let mut layer = toml::Table::new();
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if OF_COMMANDS.contains(&name.as_str()) || is_of_kubernetes(rest) || text.is_empty() {
            continue;
        }
        let key = rest.to_ascii_lowercase().replace("__", ".");
        let Some(default) = schema.default_of(&key).filter(|d| !d.is_object()) else {
            let meant = schema.nearest(&key);
            if !rest.contains("__") && !meant.as_ref().is_some_and(|meant| is_slip(&key, meant)) {
                // Not of the form of ours, and like none of ours: somebody else's.
                continue;
            }
            return Err(ConfigError::UnknownVariable {
                name: name.clone(),
                meant: meant.map(|k| variable(&k)),
            });
        };
        insert(&mut layer, &key, typed(default, text));
    }
    Ok(layer)
}

/// The variable that sets a key.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// Whether a name without `__` is so like a key that the key was meant: `worker_node`.
fn is_slip(name: &str, key: &str) -> bool {
    strsim::damerau_levenshtein(name, key) <= 2
}

/// Kubernetes tells every pod of each service by variables; of a service called `mothball` or `mothball-api` they
/// begin like ours.
fn is_of_kubernetes(rest: &str) -> bool {
    let words: Vec<&str> = rest.split('_').collect();
    match words.iter().rposition(|word| *word == "PORT" || *word == "HOST") {
        _ if rest.contains("__") => false,
        Some(at) if words[at] == "HOST" => at > 0 && words[at - 1] == "SERVICE",
        Some(at) => {
            let service = at > 0 && words[at - 1] == "SERVICE";
            let numbered = words[at + 1..].first().is_none_or(|word| word.parse::<u16>().is_ok());
            let of_number = at > 2 && words[at - 2].parse::<u16>().is_ok();
            service || numbered || of_number
        }
        None => words.windows(2).any(|w| w[0] == "PORT" && w[1].parse::<u16>().is_ok()),
    }
}

/// The text as the kind of value that the setting's default is. What does not fit stays a text, and is refused where
/// the settings are read, with the key's name.
fn typed(default: &Value, text: &str) -> toml::Value {
    let parsed = match default {
        Value::Number(_) | Value::Bool(_) | Value::Array(_) => {
            format!("x = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("x"))
        }
        _ => None,
    };
    parsed.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn insert(layer: &mut toml::Table, key: &str, value: toml::Value) {
    match key.split_once('.') {
        None => {
            layer.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let section = layer.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(table) = section {
                insert(table, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_says_of_a_service_is_not_ours() {
        for foreign in [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "PORT",
            "PORT_8780_TCP",
            "PORT_8780_TCP_ADDR",
            "PORT_8780_TCP_PORT",
            "API_SERVICE_HOST",
            "API_PORT_8780_TCP_PROTO",
        ] {
            assert!(is_of_kubernetes(foreign), "{foreign}");
        }
        for ours in ["API__LISTEN", "WORKER_NODE", "DATA_DIR", "WORKER__DOCKER_HOST", "DOCKER_HOST"] {
            assert!(!is_of_kubernetes(ours), "{ours}");
        }
    }
}
