//! What users do with containers, in short forms.

use anyhow::{Context as _, Result, ensure};
use mothball_harness::dockerd::Dockerd;
use mothball_harness::http::Api;
use mothball_harness::system::JOB_LIMIT;
use serde_json::{Value, json};

/// A container that is ready.
#[derive(Clone, Debug)]
pub struct Launched {
    /// Its id in Mothball.
    pub id: String,
    /// Its id at its engine.
    pub docker_id: String,
    /// The node it is on.
    pub node: String,
}

/// Launches a container of the smallest flavor and waits until it is ready.
pub async fn launch(api: &Api, name: &str, image: &str) -> Result<Launched> {
    launch_as(api, &json!({"name": name, "image": image, "flavor": "cpu-small"})).await
}

/// Launches a container as the body says and waits until it is ready.
pub async fn launch_as(api: &Api, body: &Value) -> Result<Launched> {
    let job = api.post("/v1/containers", body).await?.job_id(202)?;
    let job = api.wait_success(&job, JOB_LIMIT).await?;
    launched(api, &text(&job["container"])).await
}

/// What is known of a container.
pub async fn launched(api: &Api, id: &str) -> Result<Launched> {
    let container = container(api, id).await?;
    let field = |name: &str| {
        container[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {container:#}"))
    };
    Ok(Launched { id: id.to_owned(), docker_id: field("docker_id")?, node: field("node")? })
}

/// A container as the API shows it.
pub async fn container(api: &Api, id: &str) -> Result<Value> {
    api.get(&format!("/v1/containers/{id}")).await?.expect(200)
}

/// An image as the API shows it, by `name:tag`.
pub async fn image(api: &Api, image: &str) -> Result<Value> {
    api.get(&format!("/v1/images/{image}")).await?.expect(200)
}

/// Asks for a save; the job's id.
pub async fn save(api: &Api, container: &str, body: &Value) -> Result<String> {
    api.post(&format!("/v1/containers/{container}/snapshots"), body).await?.job_id(202)
}

/// Saves a container under this tag, and keeps it; the job.
pub async fn save_and_keep(api: &Api, container: &str, tag: &str) -> Result<Value> {
    let job = save(api, container, &json!({"tag": tag})).await?;
    api.wait_success(&job, JOB_LIMIT).await
}

/// Saves a container under this tag and deletes it; the job.
pub async fn save_and_delete(api: &Api, container: &str, tag: &str) -> Result<Value> {
    let job = save(api, container, &json!({"tag": tag, "then": "delete"})).await?;
    api.wait_success(&job, JOB_LIMIT).await
}

/// Cancels a job.
pub async fn cancel(api: &Api, job: &str) -> Result<()> {
    let answer = api.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await?;
    ensure!(matches!(answer.status, 200 | 202), "the cancel was answered {}: {}", answer.status, answer.json);
    Ok(())
}

/// A job's notes in one text.
pub fn notes(job: &Value) -> String {
    let notes = job["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    notes.collect::<Vec<_>>().join("\n")
}

/// A value as text, without quotes.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Where the engine says that a container stands: `running`, `paused`, `exited`, …; `absent` where it has none.
pub async fn status(dockerd: &Dockerd, docker_id: &str) -> Result<String> {
    match dockerd.docker(&["inspect", "--format", "{{.State.Status}}", docker_id]).await {
        Err(error) if error.to_string().contains("No such object") => Ok("absent".to_owned()),
        status => status,
    }
}

/// Runs a shell script in a container as root, whoever the image runs as.
pub async fn root(dockerd: &Dockerd, docker_id: &str, script: &str) -> Result<String> {
    dockerd.docker(&["exec", "--user", "0", docker_id, "sh", "-c", script]).await
}

/// Starts a shell script in a container as root and leaves it running.
pub async fn background(dockerd: &Dockerd, docker_id: &str, script: &str) -> Result<()> {
    let args = ["exec", "--detach", "--user", "0", docker_id, "sh", "-c", script];
    dockerd.docker(&args).await.map(drop)
}
