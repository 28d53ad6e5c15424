//! Making containers.

use super::{CONTAINER_LABEL, ContainerStatus, DockerError, Engine, container::found};
use bollard::models::{ContainerCreateBody, DeviceRequest, HostConfig, Mount, MountType, PortBinding};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use mothball_domain::container::Mount as LaunchMount;
use std::collections::{BTreeMap, HashMap};

/// How Docker is asked for GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GpuRequest {
    /// By their uuids, through NVIDIA's container toolkit.
    #[default]
    Nvidia,
    /// Not at all: for trials on machines without any.
    None,
}

/// What a container is made of. It runs its image's own ENTRYPOINT and CMD.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// Its name on the node.
    pub name: String,
    /// An image that the node has: reference or id.
    pub image: String,
    /// Environment on top of the image's. May hold secrets.
    pub env: BTreeMap<String, String>,
    /// Labels; `mothball.container` must be among them.
    pub labels: BTreeMap<String, String>,
    /// Paths of the node that are mounted.
    pub mounts: Vec<LaunchMount>,
    /// TCP ports to publish, each on a free port of the node.
    pub ports: Vec<u16>,
    /// The address of the node on which they are published; empty means all.
    pub publish_address: String,
    /// CPU cores.
    pub cpus: u32,
    /// Memory limit in bytes.
    pub memory_bytes: u64,
    /// Size of `/dev/shm`; Docker's default when absent.
    pub shm_bytes: Option<u64>,
    /// Uuids of its GPUs.
    pub gpus: Vec<String>,
    /// How Docker is asked for them.
    pub gpu_request: GpuRequest,
    /// Docker's network; its default when absent.
    pub network: Option<String>,
}

/// A container that now exists and has not been started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its Docker id.
    pub id: String,
    /// Whether an earlier attempt had made it.
    pub adopted: bool,
    /// What Docker warned of.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Makes a container. Idempotent by name: one that an earlier attempt made for the same `mothball.container` and
    /// from the same image is taken over, whether it was started or not; another holder of the name is an error.
    pub async fn create(&self, request: &CreateRequest) -> Result<Created, DockerError> {
        let options = CreateContainerOptionsBuilder::default().name(&request.name).build();
        let made = self
            .call("create container", self.limits.slow, |d| async move {
                d.create_container(Some(options), body(request)).await
            })
            .await;
        match made {
            Ok(answer) => Ok(Created { id: answer.id, adopted: false, warnings: answer.warnings }),
            Err(error @ DockerError::Refused { status: 409, .. }) => self.adopt(request, error).await,
            Err(error) => Err(error),
        }
    }

    async fn adopt(&self, request: &CreateRequest, conflict: DockerError) -> Result<Created, DockerError> {
        let Some(holder) = self.inspect(&request.name).await? else { return Err(conflict) };
        // Every label: the number alone may be another installation's, or an earlier try with other GPUs.
        let same = |(name, value): (&String, &String)| holder.labels.get(name) == Some(value);
        let same_record = request.labels.contains_key(CONTAINER_LABEL) && request.labels.iter().all(same);
        let image = found(self.image_id(&request.image).await)?;
        let same_image = image.is_some_and(|id| id == holder.image_id);
        let usable = !matches!(holder.status, ContainerStatus::Removing | ContainerStatus::Dead);
        if same_record && same_image && usable {
            return Ok(Created { id: holder.id, adopted: true, warnings: Vec::new() });
        }
        Err(DockerError::NameTaken { name: request.name.clone(), holder: holder.id })
    }
}

fn body(request: &CreateRequest) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(request.image.clone()),
        env: Some(request.env.iter().map(|(k, v)| format!("{k}={v}")).collect()),
        labels: Some(request.labels.clone().into_iter().collect()),
        exposed_ports: Some(request.ports.iter().map(|p| format!("{p}/tcp")).collect()),
        host_config: Some(host_config(request)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(request: &CreateRequest) -> HostConfig {
    let publish = |port: &u16| {
        // An empty host port means any free one.
        let binding =
            PortBinding { host_ip: Some(request.publish_address.clone()), host_port: Some(String::new()) };
        (format!("{port}/tcp"), Some(vec![binding]))
    };
    let mount = |m: &LaunchMount| Mount {
        target: Some(m.target.clone()),
        source: Some(m.source.clone()),
        typ: Some(MountType::BIND),
        ..Mount::default()
    };
    HostConfig {
        nano_cpus: (request.cpus > 0).then_some(i64::from(request.cpus) * 1_000_000_000),
        memory: (request.memory_bytes > 0).then(|| signed(request.memory_bytes)),
        shm_size: request.shm_bytes.map(signed),
        port_bindings: Some(request.ports.iter().map(publish).collect::<HashMap<_, _>>()),
        mounts: Some(request.mounts.iter().map(mount).collect()),
        device_requests: devices(request),
        network_mode: request.network.clone(),
        ..HostConfig::default()
    }
}

fn devices(request: &CreateRequest) -> Option<Vec<DeviceRequest>> {
    if request.gpu_request == GpuRequest::None || request.gpus.is_empty() {
        return None;
    }
    // Count and ids exclude each other.
    Some(vec![DeviceRequest {
        driver: Some(String::new()),
        count: None,
        device_ids: Some(request.gpus.clone()),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        options: None,
    }])
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_asked_for_by_uuid_or_not_at_all() {
        let mut request = CreateRequest { gpus: vec!["GPU-1".into(), "GPU-2".into()], ..Default::default() };
        let asked = host_config(&request).device_requests.unwrap();
        assert_eq!((asked[0].device_ids.as_deref(), asked[0].count), (Some(&request.gpus[..]), None));
        request.gpu_request = GpuRequest::None;
        assert!(host_config(&request).device_requests.is_none());
    }

    #[test]
    fn limits_that_are_not_given_are_not_sent() {
        let host = host_config(&CreateRequest::default());
        assert_eq!((host.nano_cpus, host.memory, host.shm_size), (None, None, None));
    }
}
