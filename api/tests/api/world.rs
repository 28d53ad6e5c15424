//! A small platform: one node, a few people, and hands that do a worker's part.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use mothball_api::v1::views;
use mothball_api::{CatalogEntry, Limits, Metrics, MountRule, Parts, Settings, bootstrap, keys, router};
use mothball_domain::flavor::Flavor;
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::image::Digest;
use mothball_domain::job::{Checkpoint, JobSpec};
use mothball_domain::name::{FlavorName, NodeName, ProjectName, UserName};
use mothball_domain::node::{Gpu, NodeReport};
use mothball_domain::people::Role;
use mothball_domain::size::ByteSize;
use mothball_queue::{Queue, Target};
use mothball_store::{
    Checkpointed, Claim, Effect, ImageDraft, JobMetrics, KeyDraft, NodeRun, Outcome, Settled, Store,
};
use serde_json::{Value, json};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// What a call got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn job(&self) -> views::Job {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Insists on the status.
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// Insists on a problem of this status and code, in every respect that holds for all problems.
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        let problem = self.is(status).problem();
        assert_eq!(problem["code"], code, "{problem}");
        problem
    }

    /// Insists on some problem.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        assert_eq!(problem["type"], format!("urn:mothball:problem:{}", problem["code"].as_str().unwrap()));
        assert_eq!(problem["instance"], self.header("x-request-id"), "{problem}");
        for field in ["title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        problem
    }
}

pub(crate) struct World {
    pub(crate) parts: Parts,
    pub(crate) router: Router,
    pub(crate) shutdown: CancellationToken,
    _dir: TempDir,
}

pub(crate) const NODE: &str = "n1";
/// How long what is deleted or overwritten can be restored.
const UNDO: Duration = Duration::from_hours(72);

fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

fn settings() -> Settings {
    let flavor = |name: &str, gpus, price: i64| Flavor {
        name: FlavorName::new(name).unwrap(),
        gpus,
        cpus: 2,
        memory: ByteSize(1 << 30),
        shm: None,
        price_per_hour: price.into(),
    };
    let mount = |kind: &str| MountRule {
        target: format!("/{kind}/{{user}}"),
        source: format!("/mnt/{kind}/{{project}}/{{user}}"),
    };
    Settings {
        currency: "TWD".into(),
        catalog: vec![CatalogEntry {
            name: "base:latest".into(),
            image: "registry.example/base:1".into(),
            kind: Some("Base".into()),
        }],
        flavors: vec![flavor("cpu-small", 0, 3), flavor("gpu-1", 1, 58), flavor("gpu-8", 8, 464)],
        mounts: vec![mount("home"), mount("work")],
        max_attempts: 5,
        alive_within: Duration::from_hours(1),
        seen_within: Duration::from_hours(1),
        policy_bounds: mothball_domain::policy::PolicyBounds::default(),
        reach: mothball_domain::notice::reach::Reach::default(),
        retention_bounds: mothball_domain::retention::RetentionBounds::default(),
        notice: Duration::from_hours(72),
        undo: UNDO,
        support_contact: Some("help@example".into()),
        health: true,
        limits: Limits {
            stream_poll: Duration::from_millis(10),
            survey_poll: Duration::from_millis(10),
            survey_timeout: Duration::from_millis(500),
            rate_burst: 100_000,
            ..Limits::default()
        },
    }
}

impl World {
    /// `admin` operates; `boss` administers project `default`, whose members are `ann` and `bob`; `eve` is in
    /// project `other`. Everybody's key is `key-NAME`.
    pub(crate) async fn new() -> Self {
        Box::pin(Self::with(|_| {})).await
    }

    /// The same, with other settings.
    pub(crate) fn boxed_with(
        change: impl FnOnce(&mut Settings) + 'static,
    ) -> Pin<Box<dyn Future<Output = Self>>> {
        Box::pin(Self::with(change))
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        // In memory where that can be had: what a disk keeps is the store's own tests' to prove.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let store = Store::embedded(&dir.path().join("store.db")).unwrap();
        let mut settings = settings();
        change(&mut settings);
        let queue = Queue::local();
        queue.declare(&Target::Any).await.unwrap();
        queue.declare(&Target::Node(name(NODE))).await.unwrap();
        let registry = prometheus::Registry::new();
        let store = store.with_metrics(Arc::new(JobMetrics::register(&registry).unwrap()));
        let metrics = Arc::new(Metrics::new(&registry).unwrap());
        let parts = Parts {
            store,
            queue,
            settings: Arc::new(settings),
            metrics,
            ready: Vec::new(),
            version: "0".into(),
        };
        bootstrap(&parts.store, &keys::sha256("key-admin")).await.unwrap();
        let shutdown = CancellationToken::new();
        let router = router(parts.clone(), shutdown.clone());
        let world = Self { parts, router, shutdown, _dir: dir };
        world.store().create_project(&name::<ProjectName>("other")).await.unwrap();
        for (user, project, role) in [
            ("boss", "default", Role::Admin),
            ("ann", "default", Role::Member),
            ("bob", "default", Role::Member),
            ("eve", "other", Role::Admin),
        ] {
            world.store().create_user(&name(user), false).await.unwrap();
            world.store().set_member(&name(project), &name(user), Some(role)).await.unwrap();
            world.key_for(user, &format!("key-{user}")).await;
        }
        world.node(NODE, 2).await;
        world
    }

    pub(crate) fn store(&self) -> &Store {
        &self.parts.store
    }

    pub(crate) async fn key_for(&self, user: &str, key: &str) {
        let draft = KeyDraft {
            id: format!("id-{key}"),
            user: name::<UserName>(user),
            label: String::new(),
            expires_at: None,
            sha256: keys::sha256(key),
        };
        self.store().create_key(&draft).await.unwrap();
    }

    pub(crate) async fn node(&self, node: &str, gpus: u32) {
        let run = Self::run(node);
        let gpu = |index| Gpu { index, uuid: format!("GPU-{index}"), name: "V100".into() };
        let report =
            NodeReport { gpus: (0..gpus).map(gpu).collect(), disk_free_bytes: 7, ..NodeReport::default() };
        self.store().register_node(&run, &report).await.unwrap();
    }

    /// Makes a call as `user`; as nobody when that is empty. `path` is given as it stands.
    pub(crate) async fn call(&self, user: &str, method: &str, path: &str, body: Value) -> Answer {
        self.call_with(user, method, path, body, &[]).await
    }

    pub(crate) async fn call_with(
        &self,
        user: &str,
        method: &str,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        if !user.is_empty() {
            request = request.header("authorization", format!("Bearer key-{user}"));
        }
        for (key, value) in headers {
            request = request.header(*key, *value);
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        };
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: head.status, headers: head.headers, text }
    }

    pub(crate) async fn get(&self, user: &str, path: &str) -> Answer {
        self.call(user, "GET", path, Value::Null).await
    }

    pub(crate) async fn post(&self, user: &str, path: &str, body: Value) -> Answer {
        self.call(user, "POST", path, body).await
    }

    /// Launches a container for `user` and does the worker's part, so that it is ready.
    pub(crate) async fn ready(&self, user: &str, container: &str) -> ContainerId {
        let body = json!({"name": container, "image": "base", "flavor": "cpu-small"});
        let job = self.post(user, "/v1/containers", body).await.is(202).job();
        self.succeed(job.id).await;
        job.container.unwrap()
    }

    /// Saves a container and does the worker's part, so that its image is there.
    pub(crate) async fn saved(&self, user: &str, container: ContainerId, tag: &str) -> JobId {
        let path = format!("/v1/containers/{container}/snapshots");
        let job = self.post(user, &path, json!({"tag": tag})).await.is(202).job();
        self.succeed(job.id).await;
        job.id
    }

    /// Does the worker's part of a job, and ends it well.
    pub(crate) async fn succeed(&self, id: JobId) {
        let store = self.store();
        let job = self.claim(id).await;
        let effect = match &job.spec {
            JobSpec::Launch | JobSpec::Start => {
                Effect::Running { docker_id: format!("{id:0<64}"), ports: vec![] }
            }
            JobSpec::Stop => Effect::Stopped,
            JobSpec::Delete => Effect::Removed,
            JobSpec::DeleteImage { .. } => Effect::ImageRemoved { undo: UNDO },
            JobSpec::RestoreImage { .. } => Effect::None,
            JobSpec::PurgeImage { .. } => Effect::ContentRemoved,
            JobSpec::Snapshot { then, .. } => {
                let digest = Digest::from_sha256(*blake(id).first_chunk().unwrap());
                let checkpoint = Checkpoint {
                    manifest: Some(digest.clone()),
                    size_bytes: Some(1234),
                    layers: Some(3),
                    verified: true,
                    ..Checkpoint::default()
                };
                let written = Checkpointed { checkpoint, ..Checkpointed::default() };
                store.checkpoint(id, job.fence, &written).await.unwrap();
                let reference = format!("host/default/base@{digest}");
                let storage_price = "1.825".parse().unwrap();
                let draft = ImageDraft {
                    digest,
                    size_bytes: 1234,
                    storage_price,
                    layers: 3,
                    reference,
                    base: None,
                    undo: UNDO,
                };
                store.record_image(id, job.fence, &draft).await.unwrap();
                if then.removes() { Effect::Removed } else { Effect::None }
            }
        };
        let settled = store.settle(id, job.fence, &Outcome::Succeeded(effect)).await.unwrap();
        assert!(matches!(settled, Settled::Done(_)), "{settled:?}");
    }

    /// The run of a node's worker.
    pub(crate) fn run(node: &str) -> NodeRun {
        NodeRun { name: name(node), uid: format!("uid-{node}"), instance: "i".into() }
    }

    /// Takes a job as the node's worker does.
    pub(crate) async fn claim(&self, id: JobId) -> mothball_domain::job::Job {
        let node: NodeName = name(NODE);
        let claim = self.store().claim(id, &node, "i", Duration::from_mins(1)).await.unwrap();
        let Claim::Claimed(job) = claim else { panic!("{claim:?}") };
        *job
    }
}

/// Bytes that differ from job to job.
fn blake(id: JobId) -> Vec<u8> {
    id.0.as_bytes().repeat(2)
}
