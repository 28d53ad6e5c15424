//! The keys there are, and the one that was probably meant.

use super::settings::Settings;
use serde_json::Value;

/// The keys of the entries of lists, which may be empty in the defaults.
const LISTS: [(&str, &[&str]); 3] = [
    ("flavors", &["name", "gpus", "cpus", "memory", "shm", "price_per_hour"]),
    ("catalog", &["name", "image", "type"]),
    ("mounts", &["target", "source"]),
];

/// What the settings look like: every key, with its default or null.
#[derive(Debug)]
pub(crate) struct Schema {
    defaults: Value,
}

impl Schema {
    /// Reads it off the defaults: an option without one is null, and so is a key nevertheless.
    pub(crate) fn of(defaults: &Settings) -> Self {
        Self { defaults: serde_json::to_value(defaults).unwrap_or_default() }
    }

    /// The default of a dotted key; nothing when there is no such key.
    pub(crate) fn default_of(&self, key: &str) -> Option<&Value> {
        key.split('.').try_fold(&self.defaults, |value, part| value.get(part))
    }

    /// Every dotted key, sections and entries of lists (as `flavors.name`) included.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        collect("", &self.defaults, &mut keys);
        for (list, fields) in LISTS {
            keys.extend(fields.iter().map(|field| format!("{list}.{field}")));
        }
        keys
    }

    /// The known key that is most like `key`, if any is.
    pub(crate) fn nearest(&self, key: &str) -> Option<String> {
        // Of a key that stands in the wrong section, or in none, the last part is what tells.
        let last = |k: &str| k.rsplit('.').next().unwrap_or(k).to_owned();
        let likeness = |known: &String| {
            let whole = strsim::jaro_winkler(key, known);
            let tail = strsim::jaro_winkler(&last(key), &last(known));
            whole.max(0.5 * whole + 0.5 * tail)
        };
        let best = self.keys().into_iter().map(|known| (likeness(&known), known));
        let (likeness, known) = best.max_by(|a, b| a.0.total_cmp(&b.0))?;
        (likeness > 0.7).then_some(known)
    }

    /// The first key of `table` that does not exist.
    pub(crate) fn first_unknown(&self, table: &toml::Table) -> Option<String> {
        let known = self.keys();
        unknown_in("", table, &known)
    }
}

fn collect(path: &str, value: &Value, keys: &mut Vec<String>) {
    let Value::Object(fields) = value else { return };
    for (name, field) in fields {
        let key = join(path, name);
        keys.push(key.clone());
        collect(&key, field, keys);
    }
}

fn unknown_in(path: &str, table: &toml::Table, known: &[String]) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let key = join(path, name);
        if !known.contains(&key) {
            return Some(key);
        }
        match value {
            toml::Value::Table(inner) => unknown_in(&key, inner, known),
            toml::Value::Array(items) => items.iter().find_map(|item| match item {
                toml::Value::Table(inner) => unknown_in(&key, inner, known),
                _ => None,
            }),
            _ => None,
        }
    })
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
