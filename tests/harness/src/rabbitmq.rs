//! A private RabbitMQ, or one that all tests of a run share, each in a virtual host of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::process::Command;
use uuid::Uuid;

use crate::claim::Claim;
use crate::command;
use crate::http;
use crate::place::Place;
use crate::process::Process;
use crate::shared::{self, Lease};

// The programs themselves: those in /usr/sbin switch to the user `rabbitmq` and read another Erlang cookie.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
const PACKAGE: &str = "rabbitmq-server";
const NODE: &str = "mothball@localhost";

/// Seven seconds of processor time on an idle machine, several times that where tests compile side by side.
const START_LIMIT: Duration = Duration::from_mins(3);
const COMMAND_LIMIT: Duration = Duration::from_mins(1);

/// How to reach a broker: enough to use and to administer it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Broker {
    home: PathBuf,
    amqp: u16,
    distribution: u16,
    names: u16,
    management: u16,
    user: String,
    password: String,
}

/// A broker of one test's own, which may be stopped, killed and started again on the same port and data.
#[derive(Debug)]
pub struct RabbitMq {
    process: Process,
    place: Place,
    broker: Broker,
    _ports: [Claim; 4],
}

/// A virtual host that no other test uses, deleted with its queues when the broker is still there at drop.
#[derive(Debug)]
pub struct Vhost {
    broker: Broker,
    name: String,
    lease: Option<Lease>,
}

impl RabbitMq {
    /// Starts a broker on ports of its own.
    pub async fn start() -> Result<Self> {
        Self::start_in(Place::new("rabbit")?).await
    }

    /// A fresh virtual host on the broker that all tests of this run share: seconds for the first test that asks,
    /// milliseconds for the others. For tests that do not stop the broker.
    pub async fn shared_vhost() -> Result<Vhost> {
        let (broker, lease) = shared::lease("rabbitmq", async |landlord| {
            let rabbit = Self::start_in(Place::shared("rabbit", landlord)?).await?;
            rabbit.process.detach();
            Ok(rabbit.broker)
        })
        .await?;
        let mut vhost = broker.vhost().await?;
        vhost.lease = Some(lease);
        Ok(vhost)
    }

    async fn start_in(place: Place) -> Result<Self> {
        let ports = [Claim::port()?, Claim::port()?, Claim::port()?, Claim::port()?];
        let [amqp, distribution, names, management] = ports.each_ref().map(Claim::number);
        let broker = Broker {
            home: place.directory().to_owned(),
            amqp,
            distribution,
            names,
            management,
            user: "mothball".to_owned(),
            password: Uuid::new_v4().simple().to_string(),
        };
        broker.write_files().context("write the broker's configuration")?;
        let process = spawn(&place, &broker)?;
        let mut rabbit = Self { process, place, broker, _ports: ports };
        rabbit.wait_ready(0).await?;
        Ok(rabbit)
    }

    /// The broker, to use and administer it.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The URL of the default virtual host.
    pub fn url(&self) -> String {
        self.broker.url("%2f")
    }

    /// Makes a virtual host for one test.
    pub async fn vhost(&self) -> Result<Vhost> {
        self.broker.vhost().await
    }

    /// Runs `rabbitmqctl`.
    pub async fn ctl(&self, args: &[&str]) -> Result<String> {
        self.broker.ctl(args).await
    }

    /// Stops the broker inside its Erlang node: connections are closed, the port refuses.
    pub async fn stop_app(&self) -> Result<()> {
        self.ctl(&["stop_app"]).await.map(drop)
    }

    /// Starts the broker inside its Erlang node again.
    pub async fn start_app(&self) -> Result<()> {
        self.ctl(&["start_app"]).await.map(drop)
    }

    /// Closes every connection from the broker's side.
    pub async fn close_all_connections(&self) -> Result<()> {
        self.ctl(&["close_all_connections", "test"]).await.map(drop)
    }

    /// Kills the broker as a power switch would; data stay.
    pub fn kill9(&mut self) {
        // The process we started is a shell that waits for the Erlang machine.
        self.place.kill_all();
        self.process.kill();
    }

    /// Stops the broker in order; data stay.
    pub async fn stop(&mut self) -> Result<()> {
        let end = self.process.stop(COMMAND_LIMIT).await;
        self.place.kill_all();
        end.map(drop)
    }

    /// Starts a killed or stopped broker again on the same port and data.
    pub async fn start_again(&mut self) -> Result<()> {
        self.kill9();
        let before = self.starts();
        self.process = spawn(&self.place, &self.broker)?;
        self.wait_ready(before).await
    }

    /// The broker's own directory, gone after drop.
    pub fn directory(&self) -> &Path {
        self.place.directory()
    }

    /// The broker's log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn starts(&self) -> usize {
        starts(&self.process.log())
    }

    async fn wait_ready(&mut self, before: usize) -> Result<()> {
        let log = self.place.path("rabbitmq.log");
        let port = self.broker.amqp;
        self.process
            .wait_ready(START_LIMIT, async || {
                // The port opens before the virtual hosts are up; the line comes after both.
                let text = std::fs::read(&log).ok()?;
                let started = starts(&String::from_utf8_lossy(&text)) > before;
                let open = started && TcpStream::connect(("127.0.0.1", port)).await.is_ok();
                open.then_some(())
            })
            .await
    }
}

impl Broker {
    /// The URL of a virtual host.
    pub fn url(&self, vhost: &str) -> String {
        format!("amqp://{}:{}@{}/{vhost}", self.user, self.password, self.address())
    }

    /// Host and port for AMQP, for a proxy in front.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.amqp)
    }

    /// Makes a virtual host for one test.
    pub async fn vhost(&self) -> Result<Vhost> {
        let name = format!("t{}", Uuid::new_v4().simple());
        self.management(reqwest::Method::PUT, &format!("vhosts/{name}")).await?;
        Ok(Vhost { broker: self.clone(), name, lease: None })
    }

    /// Runs `rabbitmqctl`.
    pub async fn ctl(&self, args: &[&str]) -> Result<String> {
        let mut control = Command::new(command::program(CONTROL, PACKAGE)?);
        control.env_clear().envs(self.environment()).args(["--quiet", "--node", NODE]).args(args);
        command::stdout(&mut control, COMMAND_LIMIT).await
    }

    /// Asks the management API, `path` below `/api/`; the answer is JSON, `null` where there is none.
    pub async fn management(&self, method: reqwest::Method, path: &str) -> Result<serde_json::Value> {
        self.management_with(method, path, &serde_json::Value::Null).await
    }

    async fn management_with(
        &self,
        method: reqwest::Method,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<serde_json::Value> {
        let url = format!("http://127.0.0.1:{}/api/{path}", self.management);
        let request = http::client().request(method, url).basic_auth(&self.user, Some(&self.password));
        let answer = if body.is_null() { request } else { request.json(body) }
            .send()
            .await
            .context("ask the broker's management")?
            .error_for_status()
            .context("ask the broker's management")?
            .bytes()
            .await
            .context("read the broker's management")?;
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    fn write_files(&self) -> std::io::Result<()> {
        let Self { amqp, management, user, password, .. } = self;
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {management}\n\
             default_user = {user}\n\
             default_pass = {password}\n\
             log.console.level = info\n"
        );
        std::fs::write(self.home.join("rabbit.conf"), configuration)?;
        // Costs half a second at the start and makes a virtual host in 15 ms instead of a second.
        std::fs::write(self.home.join("plugins"), "[rabbitmq_management].\n")
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.home.join(name).to_string_lossy().into_owned();
        vec![
            ("PATH", command::PATH.to_owned()),
            ("HOME", self.home.to_string_lossy().into_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("RABBITMQ_NODENAME", NODE.to_owned()),
            ("RABBITMQ_CONF_ENV_FILE", path("none")),
            ("RABBITMQ_CONFIG_FILE", path("rabbit")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
            ("RABBITMQ_MNESIA_BASE", path("data")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("RABBITMQ_LOGS", "-".to_owned()),
            ("RABBITMQ_PID_FILE", path("pid")),
            ("RABBITMQ_DIST_PORT", self.distribution.to_string()),
            ("ERL_EPMD_PORT", self.names.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ]
    }
}

impl Vhost {
    /// The URL, with credentials.
    pub fn url(&self) -> String {
        self.broker.url(&self.name)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Closes every connection to this virtual host from the broker's side.
    pub async fn close_connections(&self) -> Result<()> {
        let args = ["close_all_connections", "--vhost", &self.name, "test"];
        self.broker.ctl(&args).await.map(drop)
    }

    /// Puts one more message into a queue.
    pub async fn publish(&self, queue: &str, kind: &str, body: &str) -> Result<()> {
        let message = serde_json::json!({
            "routing_key": queue, "payload": body, "payload_encoding": "string",
            "properties": {"type": kind, "delivery_mode": 2},
        });
        let path = format!("exchanges/{}/amq.default/publish", self.name);
        let answer = self.broker.management_with(reqwest::Method::POST, &path, &message).await?;
        anyhow::ensure!(answer["routed"] == true, "the broker has no queue {queue}");
        Ok(())
    }

    /// The queues with the number of messages ready in each, as the broker knows them at this moment.
    pub async fn queues(&self) -> Result<Vec<(String, u64)>> {
        // Not by the management API, whose figures are up to five seconds old.
        let args = ["list_queues", "--vhost", &self.name, "--no-table-headers", "name", "messages_ready"];
        let rows = self.broker.ctl(&args).await?;
        let parse = |row: &str| {
            let (name, ready) = row.split_once('\t')?;
            Some((name.to_owned(), ready.trim().parse().ok()?))
        };
        rows.lines().map(|row| parse(row).with_context(|| format!("read the row {row:?}"))).collect()
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        // Only a shared broker outlives its virtual hosts, and there is no waiting in a drop: a thread asks.
        if self.lease.is_some() {
            let (broker, path) = (self.broker.clone(), format!("vhosts/{}", self.name));
            let deletion = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(broker.management(reqwest::Method::DELETE, &path))
            });
            let _gone = deletion.join();
        }
    }
}

fn spawn(place: &Place, broker: &Broker) -> Result<Process> {
    let program = command::program(SERVER, PACKAGE)?;
    let mut command = Process::command(place, &program);
    command.envs(broker.environment());
    Process::spawn(place, "rabbitmq", &mut command)
}

fn starts(log: &str) -> usize {
    log.matches("Server startup complete").count()
}
