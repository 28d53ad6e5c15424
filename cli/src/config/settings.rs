//! The settings, typed. What each means stands in `defaults.toml`, the one place where keys are documented.

use super::duration::Span;
use super::secret::{Secret, SecretUrl};
use ipnet::IpNet;
use mothball_domain::exclude::Exclude;
use mothball_domain::flavor::Flavor;
use mothball_domain::size::ByteSize;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything that can be configured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) currency: String,
    pub(crate) shutdown_grace: Span,
    pub(crate) support_contact: Option<String>,
    pub(crate) log: Log,
    pub(crate) api: Api,
    pub(crate) telemetry: Telemetry,
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    pub(crate) registry: Registry,
    pub(crate) worker: Worker,
    pub(crate) jobs: Jobs,
    pub(crate) scheduler: Scheduler,
    pub(crate) policies: Policies,
    pub(crate) retention: Retention,
    pub(crate) billing: Billing,
    pub(crate) notifications: Notifications,
    pub(crate) flavors: Vec<Flavor>,
    #[serde(default)]
    pub(crate) catalog: Vec<CatalogEntry>,
    #[serde(default)]
    pub(crate) mounts: Vec<MountRule>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Api {
    pub(crate) listen: String,
    pub(crate) public_url: Option<String>,
    pub(crate) admin_key: Option<Secret>,
    pub(crate) body_max: ByteSize,
    pub(crate) request_timeout: Span,
    pub(crate) survey_timeout: Span,
    pub(crate) rate_per_second: u32,
    pub(crate) rate_burst: u32,
    pub(crate) streams: u32,
    pub(crate) streams_per_user: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Telemetry {
    pub(crate) listen: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    pub(crate) url: SecretUrl,
    pub(crate) prefix: String,
    pub(crate) timeout: Span,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Queue {
    pub(crate) url: SecretUrl,
    pub(crate) prefix: String,
    pub(crate) publish_timeout: Span,
    pub(crate) connect_timeout: Span,
    pub(crate) len_max: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registry {
    pub(crate) url: String,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) timeout: Span,
    pub(crate) connect_timeout: Span,
    pub(crate) stall_timeout: Span,
    pub(crate) finish_timeout: Span,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Worker {
    pub(crate) node: Option<String>,
    pub(crate) docker_host: String,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) concurrency: u16,
    pub(crate) snapshot: Snapshot,
    pub(crate) gpus: Gpus,
    pub(crate) gpu_request: GpuRequest,
    pub(crate) publish_address: String,
    pub(crate) network: Option<String>,
    pub(crate) heartbeat: Span,
    pub(crate) usage_interval: Span,
    pub(crate) alive_within: Span,
    pub(crate) stop_grace: Span,
    pub(crate) frozen_max: Span,
    pub(crate) secret_files: Vec<Exclude>,
    pub(crate) secret_files_ignored: Vec<Exclude>,
    pub(crate) stall_timeout: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Snapshot {
    Auto,
    Direct,
    Engine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GpuRequest {
    Nvidia,
    None,
}

/// `"auto"` or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "NumberOrText")]
pub(crate) enum Gpus {
    Auto,
    Fixed(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u32),
    Text(String),
}

impl TryFrom<NumberOrText> for Gpus {
    type Error = String;

    fn try_from(value: NumberOrText) -> Result<Self, String> {
        match value {
            NumberOrText::Number(count) => Ok(Self::Fixed(count)),
            NumberOrText::Text(text) if text == "auto" => Ok(Self::Auto),
            NumberOrText::Text(text) => text
                .parse()
                .map(Self::Fixed)
                .map_err(|_| format!("{text:?} is neither \"auto\" nor a number of GPUs")),
        }
    }
}

impl From<Gpus> for NumberOrText {
    fn from(gpus: Gpus) -> Self {
        match gpus {
            Gpus::Auto => Self::Text("auto".to_owned()),
            Gpus::Fixed(count) => Self::Number(count),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jobs {
    pub(crate) lease: Span,
    pub(crate) max_attempts: u32,
    pub(crate) retry_first: Span,
    pub(crate) retry_max: Span,
    pub(crate) gone_after: Span,
    pub(crate) keep_for: Span,
    pub(crate) audit_keep_for: Span,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scheduler {
    pub(crate) tick: Span,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policies {
    pub(crate) tick: Span,
    pub(crate) grace_min: Span,
    pub(crate) grace_max: Span,
    pub(crate) lifetime_min: Span,
    pub(crate) idle_min: Span,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retention {
    pub(crate) undo: Span,
    pub(crate) notice: Span,
    pub(crate) tick: Span,
    pub(crate) keep_last_min: u32,
    pub(crate) unused_days_min: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Billing {
    pub(crate) storage_price_per_gb_month: Decimal,
    pub(crate) keep_for: Span,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notifications {
    pub(crate) allow_networks: Vec<IpNet>,
    pub(crate) timeout: Span,
    pub(crate) max_attempts: u32,
    pub(crate) retry_first: Span,
    pub(crate) keep_for: Span,
    pub(crate) smtp: Smtp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Smtp {
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
    pub(crate) tls: SmtpTls,
    pub(crate) username: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) from: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SmtpTls {
    Starttls,
    Tls,
    None,
}

/// A base image on offer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatalogEntry {
    pub(crate) name: String,
    pub(crate) image: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
}

/// A directory of the node that every launched container gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MountRule {
    pub(crate) target: String,
    pub(crate) source: String,
}
