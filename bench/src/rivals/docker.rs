//! What a user does without Mothball: docker commit and push; docker pull and run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mothball_harness::command::stdout;
use mothball_harness::dockerd::Dockerd;

use super::Done;

const LIMIT: Duration = Duration::from_hours(1);

/// `docker commit CONTAINER REFERENCE && docker push REFERENCE`.
pub(crate) async fn save(dockerd: &Dockerd, container: &str, reference: &str) -> Result<Done> {
    let mut done = Done { reference: reference.to_owned(), ..Done::default() };
    stage(dockerd, &mut done, "commit", &["commit", container, reference]).await?;
    stage(dockerd, &mut done, "push", &["push", "--quiet", reference]).await?;
    Ok(done)
}

/// `docker pull REFERENCE && docker run --detach --name NAME REFERENCE`.
pub(crate) async fn launch(dockerd: &Dockerd, name: &str, reference: &str) -> Result<Done> {
    let mut done = Done::default();
    stage(dockerd, &mut done, "pull", &["pull", "--quiet", reference]).await?;
    stage(dockerd, &mut done, "run", &["run", "--detach", "--name", name, reference]).await?;
    Ok(done)
}

async fn stage(dockerd: &Dockerd, done: &mut Done, name: &str, args: &[&str]) -> Result<()> {
    let begun = Instant::now();
    stdout(dockerd.client()?.args(args), LIMIT).await.with_context(|| format!("docker {name}"))?;
    done.stages.push((name.to_owned(), begun.elapsed().as_secs_f64()));
    Ok(())
}
