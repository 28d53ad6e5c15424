//! Whole set-ups: engines, a registry, a broker and a store, and Mothball in front of them.
//!
//! Everything is the test's own except, unless asked otherwise, the RabbitMQ server: that is one for the whole run, and each
//! system has a virtual host of its own there. With [`Options::proxied`] a proxy stands on every way.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::busybox;
use crate::clock::Clock;
use crate::dockerd::Dockerd;
use crate::http::Api;
use crate::mothball::{self, Mothball};
use crate::proxy::{Address, Proxy};
use crate::rabbitmq::{RabbitMq, Vhost};
use crate::redis::Redis;
use crate::registry::{self, Registry};

/// The base image of every system's catalog: busybox that idles, and ends at once when it is asked to stop.
pub const BASE: &str = "base:latest";

/// Long enough for any job of a test on a busy machine.
pub const JOB_LIMIT: Duration = Duration::from_mins(2);

/// The two pairs of queue and store; a suite runs on both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// The queue and the store inside one process.
    Embedded,
    /// RabbitMQ and Redis, with one process for each target.
    Servers,
}

/// A system to be.
#[derive(Clone, Debug)]
pub struct Options {
    pair: Pair,
    own_broker: bool,
    proxied: bool,
    registry: registry::Options,
    engine_args: Vec<String>,
    store_environment: Vec<(&'static str, String)>,
    mothball: mothball::Options,
}

/// A running system. Fields are dropped in order: Mothball first, then what it talks to.
#[derive(Debug)]
pub struct System {
    /// The process with the API; on the embedded pair the only one.
    pub api: Mothball,
    /// The scheduler, where it is a process of its own.
    pub scheduler: Option<Mothball>,
    /// The nodes; the first one's worker is the API's process on the embedded pair.
    pub nodes: Vec<Node>,
    /// The ways that can be broken, where the system is proxied.
    pub proxies: Option<Proxies>,
    /// The registry.
    pub registry: Registry,
    /// The virtual host at the broker.
    pub vhost: Option<Vhost>,
    /// The broker, where it is this system's own.
    pub rabbit: Option<RabbitMq>,
    /// The store, where it is a server.
    pub redis: Option<Redis>,
    settings: mothball::Options,
}

/// One machine with GPUs, as far as Mothball can tell.
#[derive(Debug)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// The worker, where it is a process of its own.
    pub worker: Option<Mothball>,
    /// The way to the engine, where the system is proxied.
    pub socket: Option<Proxy>,
    /// The engine.
    pub dockerd: Dockerd,
}

/// A proxy on each way out of Mothball's processes.
#[derive(Debug)]
pub struct Proxies {
    /// The way to the registry, for Mothball and for the engines.
    pub registry: Proxy,
    /// The way to RabbitMQ.
    pub broker: Option<Proxy>,
    /// The way to Redis.
    pub store: Option<Proxy>,
}

impl Pair {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Embedded, Self::Servers];
}

impl Options {
    /// Gives the system a RabbitMQ server of its own, which may be stopped and killed.
    #[must_use]
    pub fn own_broker(mut self) -> Self {
        self.own_broker = true;
        self
    }

    /// Puts a proxy on every way.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Describes the registry.
    #[must_use]
    pub fn registry(mut self, registry: registry::Options) -> Self {
        self.registry = registry;
        self
    }

    /// Adds an argument for the engines, such as `--live-restore`.
    #[must_use]
    pub fn engine_arg(mut self, arg: &str) -> Self {
        self.engine_args.push(arg.to_owned());
        self
    }

    /// Puts the store under this clock: Redis, or the one process that holds the embedded store. The store's clock is
    /// Mothball's: the other processes go by the real one, which must change nothing.
    pub fn clock(mut self, clock: &Clock) -> Result<Self> {
        let environment = clock.environment()?;
        if self.pair == Pair::Servers {
            self.store_environment = environment;
        } else {
            for (name, value) in environment {
                self.mothball = self.mothball.env(name, value);
            }
        }
        Ok(self)
    }

    /// Sets a variable of the environment of every process of Mothball.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.mothball = self.mothball.env(name, value);
        self
    }

    /// Adds lines to the configuration file of every process of Mothball.
    #[must_use]
    pub fn configuration(mut self, toml: &str) -> Self {
        self.mothball = self.mothball.configuration(toml);
        self
    }

    /// Starts everything, side by side where it can be.
    pub async fn start(self) -> Result<System> {
        let servers = self.pair == Pair::Servers;
        let args: Vec<&str> = self.engine_args.iter().map(String::as_str).collect();
        let (dockerd, registry, redis, (rabbit, vhost)) = tokio::try_join!(
            engine(&args),
            self.registry.clone().start(),
            async {
                if servers { Redis::start_with(self.store_environment).await.map(Some) } else { Ok(None) }
            },
            async { if servers { broker(self.own_broker).await } else { Ok((None, None)) } },
        )?;
        let proxies = if self.proxied {
            Some(Proxies::start(&registry, redis.as_ref(), vhost.as_ref()).await?)
        } else {
            None
        };
        let settings = settings(self.mothball, &registry, redis.as_ref(), vhost.as_ref(), proxies.as_ref());
        let mut node = Node::new("node-a", dockerd, self.proxied).await?;
        let (api, scheduler) = if servers {
            let (api, scheduler, worker) = tokio::try_join!(
                settings.clone().target("api").start(),
                settings.clone().target("scheduler").start(),
                node.worker(settings.clone().target("worker")).start(),
            )?;
            node.worker = Some(worker);
            (api, Some(scheduler))
        } else {
            (node.worker(settings.clone()).start().await?, None)
        };
        api.wait_able().await?;
        Ok(System { api, scheduler, nodes: vec![node], proxies, registry, vhost, rabbit, redis, settings })
    }
}

impl System {
    /// Describes a system before it is started.
    pub fn options(pair: Pair) -> Options {
        // The catalog offers the base image, which every engine of the harness has.
        let catalog = format!("[[catalog]]\nname = \"{BASE}\"\nimage = \"{BASE}\"");
        Options {
            pair,
            own_broker: false,
            proxied: false,
            registry: Registry::options(),
            engine_args: Vec::new(),
            store_environment: Vec::new(),
            mothball: Mothball::options().env("MOTHBALL_WORKER__GPUS", "0").configuration(&catalog),
        }
    }

    /// Starts a system of this pair as it comes.
    pub async fn start(pair: Pair) -> Result<Self> {
        Self::options(pair).start().await
    }

    /// The API with the operator's key.
    pub fn operator(&self) -> Result<Api> {
        self.api.api()
    }

    /// The first node's engine.
    pub fn dockerd(&self) -> &Dockerd {
        &self.nodes[0].dockerd
    }

    /// The first node's worker: on the embedded pair the one process.
    pub fn worker(&mut self) -> &mut Mothball {
        self.nodes[0].worker.as_mut().unwrap_or(&mut self.api)
    }

    /// The scheduler: on the embedded pair the one process.
    pub fn scheduler(&mut self) -> &mut Mothball {
        self.scheduler.as_mut().unwrap_or(&mut self.api)
    }

    /// One more process of this system: a second API or scheduler, or one whose settings are to be wrong.
    pub fn another(&self, target: &str) -> mothball::Options {
        self.settings.clone().target(target)
    }

    /// Adds a node with an engine and a worker of its own; only a system of servers can have a second one.
    pub async fn add_node(&mut self, name: &str) -> Result<&Node> {
        anyhow::ensure!(self.redis.is_some(), "the embedded pair has one node");
        let dockerd = engine(&[]).await?;
        let mut node = Node::new(name, dockerd, self.proxies.is_some()).await?;
        let worker = node.worker(self.settings.clone().target("worker")).start().await?;
        node.worker = Some(worker);
        self.nodes.push(node);
        self.nodes.last().context("find the node just added")
    }

    /// What every process of this system is started with: for one more, or for one in place of another.
    pub fn settings(&self) -> mothball::Options {
        self.settings.clone()
    }

    /// Launches a container from the base image and waits until it is ready; its id in Mothball.
    pub async fn launch(&self, name: &str) -> Result<String> {
        let api = self.operator()?;
        let body = serde_json::json!({"name": name, "image": BASE, "flavor": "cpu-small"});
        let job = api.post("/v1/containers", &body).await?.job_id(202)?;
        let job = api.wait_success(&job, JOB_LIMIT).await?;
        Ok(job["container"].as_str().map_or_else(|| job["container"].to_string(), str::to_owned))
    }

    /// The id at the engine of one of Mothball's containers.
    pub async fn docker_id(&self, container: &str) -> Result<String> {
        let filter = format!("label=mothball.container={container}");
        let id =
            self.dockerd().docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]).await?;
        anyhow::ensure!(!id.is_empty(), "the engine has no container {container}");
        Ok(id)
    }
}

impl Node {
    async fn new(name: &str, dockerd: Dockerd, proxied: bool) -> Result<Self> {
        let socket =
            if proxied { Some(Proxy::http_on_socket(Address::Unix(dockerd.socket())).await?) } else { None };
        Ok(Self { name: name.to_owned(), worker: None, socket, dockerd })
    }

    /// What makes a process the worker of this node.
    pub fn worker(&self, options: mothball::Options) -> mothball::Options {
        let socket = self.socket.as_ref().map_or_else(|| self.dockerd.host(), Proxy::url);
        options.env("MOTHBALL_WORKER__NODE", &self.name).env("MOTHBALL_WORKER__DOCKER_HOST", socket)
    }
}

impl Proxies {
    async fn start(registry: &Registry, redis: Option<&Redis>, vhost: Option<&Vhost>) -> Result<Self> {
        let mut proxies = Self {
            registry: Proxy::http(Address::Tcp(registry.address())).await?,
            broker: None,
            store: None,
        };
        if let Some(vhost) = vhost {
            proxies.broker = Some(Proxy::tcp(Address::Tcp(vhost.broker().address())).await?);
        }
        if let Some(redis) = redis {
            proxies.store = Some(Proxy::tcp(Address::Tcp(redis.address())).await?);
        }
        Ok(proxies)
    }
}

async fn engine(args: &[&str]) -> Result<Dockerd> {
    let dockerd = Dockerd::start_with(args).await?;
    dockerd.import_busybox(BASE, &[busybox::IDLE]).await?;
    Ok(dockerd)
}

async fn broker(own: bool) -> Result<(Option<RabbitMq>, Option<Vhost>)> {
    if own {
        let rabbit = RabbitMq::start().await?;
        let vhost = rabbit.vhost().await?;
        Ok((Some(rabbit), Some(vhost)))
    } else {
        Ok((None, Some(RabbitMq::shared_vhost().await?)))
    }
}

/// Where every process finds the registry, the broker and the store: through the proxies, where there are some.
fn settings(
    options: mothball::Options,
    registry: &Registry,
    redis: Option<&Redis>,
    vhost: Option<&Vhost>,
    proxies: Option<&Proxies>,
) -> mothball::Options {
    let through = |url: String, address: &str, proxy: Option<&Proxy>| match proxy {
        Some(proxy) => url.replace(address, &proxy.address()),
        None => url,
    };
    let front = proxies.map(|proxies| &proxies.registry);
    let mut options =
        options.env("MOTHBALL_REGISTRY__URL", through(registry.url(), &registry.address(), front));
    if let Some(redis) = redis {
        let front = proxies.and_then(|proxies| proxies.store.as_ref());
        let url = through(redis.url(), &redis.address(), front);
        options = options.env("MOTHBALL_STORE__URL", url);
    }
    if let Some(vhost) = vhost {
        let front = proxies.and_then(|proxies| proxies.broker.as_ref());
        let url = through(vhost.url(), &vhost.broker().address(), front);
        options = options.env("MOTHBALL_QUEUE__URL", url);
    }
    options
}
