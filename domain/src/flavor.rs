//! Flavors: sizes of containers and their price.

use crate::name::FlavorName;
use crate::size::ByteSize;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// What a container gets, and what an hour of it costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flavor {
    /// What users ask for.
    pub name: FlavorName,
    /// Whole GPUs.
    pub gpus: u32,
    /// CPU cores.
    pub cpus: u32,
    /// Memory limit.
    pub memory: ByteSize,
    /// Size of `/dev/shm`; Docker's default (64 MiB) when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm: Option<ByteSize>,
    /// Price of one hour, in the configured currency.
    pub price_per_hour: Decimal,
}
