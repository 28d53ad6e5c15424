//! A job's events over a real connection.

use crate::world::World;
use mothball_api::serve;
use mothball_store::Checkpointed;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

/// A stream of server-sent events, read as a client does.
struct Stream {
    lines: Lines<BufReader<TcpStream>>,
}

impl Stream {
    async fn open(address: SocketAddr, path: &str, user: &str) -> Self {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-{user}\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        Self { lines: BufReader::new(connection).lines() }
    }

    async fn line(&mut self) -> Option<String> {
        timeout(LIMIT, self.lines.next_line()).await.unwrap().ok().flatten()
    }

    /// The next event's job; none when the stream ends.
    async fn job(&mut self) -> Option<Value> {
        let mut event = String::new();
        while let Some(line) = self.line().await {
            if let Some(name) = line.strip_prefix("event: ") {
                name.clone_into(&mut event);
            }
            if let Some(data) = line.strip_prefix("data: ") {
                assert_eq!(event, "job");
                return Some(serde_json::from_str(data).unwrap());
            }
            // The last chunk of the body is empty.
            if line == "0" {
                return None;
            }
        }
        None
    }
}

/// Serves the world on a port of its own.
async fn served(world: &World) -> (SocketAddr, JoinSet<Result<(), mothball_api::ServeError>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, world.parts.clone(), world.shutdown.clone()));
    (address, tasks)
}

#[tokio::test]
async fn a_stream_shows_the_job_at_once_and_at_each_change_and_ends_with_it() {
    let world = World::new().await;
    let id = world.ready("ann", "box").await;
    let job = world
        .post("ann", &format!("/v1/containers/{id}/snapshots"), json!({"tag": "v1"}))
        .await
        .is(202)
        .job();
    let (address, _tasks) = served(&world).await;
    let mut stream = Stream::open(address, &format!("/v1/jobs/{}/events", job.id), "ann").await;
    assert_eq!(stream.line().await.unwrap(), "HTTP/1.1 200 OK");
    let first = stream.job().await.unwrap();
    assert_eq!((&first["id"], &first["state"]), (&json!(job.id.to_string()), &json!("queued")));
    let held = world.claim(job.id).await;
    assert_eq!(stream.job().await.unwrap()["state"], "running");
    let written = Checkpointed { step: Some(mothball_domain::job::Step::Upload), ..Checkpointed::default() };
    world.store().checkpoint(job.id, held.fence, &written).await.unwrap();
    assert_eq!(stream.job().await.unwrap()["step"], "upload");
    let done = mothball_store::Outcome::Succeeded(mothball_store::Effect::None);
    world.store().settle(job.id, held.fence, &done).await.unwrap();
    assert_eq!(stream.job().await.unwrap()["state"], "succeeded");
    assert_eq!(stream.job().await, None);
}

#[tokio::test]
async fn an_orderly_end_of_the_process_does_not_wait_for_open_streams() {
    let world = World::new().await;
    let body = json!({"name": "box", "image": "base", "flavor": "gpu-8"});
    let job = world.post("ann", "/v1/containers", body).await.is(202).job();
    let (address, mut tasks) = served(&world).await;
    let mut stream = Stream::open(address, &format!("/v1/jobs/{}/events", job.id), "ann").await;
    stream.job().await.unwrap();
    world.shutdown.cancel();
    assert_eq!(stream.job().await, None);
    timeout(Duration::from_secs(3), tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_not_waited_for_and_connections_are_bounded() {
    let world = World::boxed_with(|settings| {
        settings.limits.head_timeout = Duration::from_millis(100);
        settings.limits.connections = 1;
    })
    .await;
    let (address, _tasks) = served(&world).await;
    let mut silent = BufReader::new(TcpStream::connect(address).await.unwrap()).lines();
    // Its turn comes when the silent one has lost its seat.
    let mut next = Stream::open(address, "/livez", "ann").await;
    assert_eq!(next.line().await.unwrap(), "HTTP/1.1 200 OK");
    let said = timeout(LIMIT, silent.next_line()).await.unwrap();
    assert!(!matches!(said, Ok(Some(ref line)) if line.contains("200")), "{said:?}");
}

#[tokio::test]
async fn streams_are_bounded_and_strangers_get_none() {
    let world = World::boxed_with(|settings| settings.limits.streams_per_user = 1).await;
    let body = json!({"name": "box", "image": "base", "flavor": "gpu-8"});
    let job = world.post("ann", "/v1/containers", body).await.is(202).job();
    let path = format!("/v1/jobs/{}/events", job.id);
    let (address, _tasks) = served(&world).await;
    let mut first = Stream::open(address, &path, "ann").await;
    first.job().await.unwrap();
    let mut second = Stream::open(address, &path, "ann").await;
    assert_eq!(second.line().await.unwrap(), "HTTP/1.1 429 Too Many Requests");
    let mut stranger = Stream::open(address, &path, "eve").await;
    assert_eq!(stranger.line().await.unwrap(), "HTTP/1.1 404 Not Found");
}
