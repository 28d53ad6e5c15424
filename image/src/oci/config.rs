//! An image's config: what a container of it starts with, and of which layers it is made.

use crate::error::RegistryError;
use mothball_domain::image::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An image's config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The processor's kind.
    pub architecture: String,
    /// The operating system.
    pub os: String,
    /// When the image was made, as it is written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What a container of it starts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ContainerConfig>,
    /// The layers, uncompressed.
    pub rootfs: RootFs,
    /// How each layer came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<History>>,
    /// What this program does not know of.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl ImageConfig {
    /// Reads a config.
    pub fn parse(what: &str, bytes: &[u8]) -> Result<Self, RegistryError> {
        serde_json::from_slice(bytes)
            .map_err(|e| RegistryError::Protocol { what: what.to_owned(), detail: e.to_string() })
    }

    /// The config as bytes to upload.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RegistryError> {
        serde_json::to_vec(self).map_err(|e| RegistryError::Protocol {
            what: "write an image's config".to_owned(),
            detail: e.to_string(),
        })
    }
}

/// What a container of an image starts with. Docker's API writes the same names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `NAME=VALUE`, each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The command, or the entry point's arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// The program that is always run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// As whom it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Paths that get an anonymous volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Value>>,
    /// Ports, as `80/tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    /// How its health is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Value>,
    /// The shell of the image's file's `RUN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// The signal that stops it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// What this program does not know of.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The layers of an image, uncompressed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digest of each layer's tar, lowest first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub diff_ids: Vec<Digest>,
    /// What this program does not know of.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Digest>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// How a layer came about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// What this program does not know of.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_known_survives() {
        let value = json!({
            "architecture": "amd64", "os": "linux", "variant": "v8", "os.features": ["x"],
            "created": "2026-11-23T00:00:00.123456789Z",
            "config": {
                "Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": ["/init"], "User": "1000", "WorkingDir": "/w",
                "Labels": {"a": "b"}, "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}},
                "Healthcheck": {"Test": ["CMD", "true"], "StartInterval": 5}, "Shell": ["/bin/bash"],
                "StopSignal": "SIGINT", "OnBuild": ["RUN x"], "ArgsEscaped": true, "Future": {"x": 1},
            },
            "rootfs": {"type": "layers", "diff_ids": [Digest::from_sha256([1; 32])]},
            "history": [{"created_by": "x", "empty_layer": true, "future": 1}],
        });
        let config = ImageConfig::parse("read it", value.to_string().as_bytes()).unwrap();
        assert_eq!(config.config.as_ref().unwrap().stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(serde_json::from_slice::<Value>(&config.to_bytes().unwrap()).unwrap(), value);
    }

    #[test]
    fn docker_writes_null_where_it_means_nothing() {
        let value = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Env": null, "Cmd": null, "Volumes": null, "Labels": null, "OnBuild": null},
            "rootfs": {"type": "layers", "diff_ids": null}, "history": null,
        });
        let config = ImageConfig::parse("read it", value.to_string().as_bytes()).unwrap();
        assert!(config.rootfs.diff_ids.is_empty() && config.config.unwrap().env.is_none());
    }
}
