//! `mothball launch`, `mothball adopt`.

use super::submitted::{self, Wait};
use crate::context::Context;
use crate::exit::Fail;
use clap::Args;
use mothball_api::v1::views::{AdoptRequest, Container, Job, LaunchRequest};
use std::collections::BTreeMap;

#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// A custom image NAME:TAG of the project, else a name of the catalogue.
    image: String,
    /// The container's name.
    #[arg(long)]
    name: String,
    /// Its size; `mothball flavors` lists them.
    #[arg(long)]
    flavor: String,
    /// Environment, never part of a saved image. KEY alone takes the value from your own environment.
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// A configured mount, by its target; all of them when none is named.
    #[arg(long, value_name = "TARGET")]
    mount: Vec<String>,
    /// A TCP port to publish.
    #[arg(long, value_name = "PORT")]
    port: Vec<u16>,
    /// Free text.
    #[arg(long, default_value = "")]
    description: String,
    /// A label, by which schedules choose.
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn launch(args: LaunchArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let request = LaunchRequest {
        name: args.name,
        image: args.image,
        flavor: args.flavor,
        env: environment(&args.env, cx)?,
        mounts: args.mount,
        ports: args.port,
        description: args.description,
        labels: labels(&args.label)?,
        project: None,
    };
    let job: Job = client.post(&["containers"], &request).await?;
    submitted::one(cx, &client, job, args.wait).await
}

/// `KEY=VALUE`, or `KEY` alone, so that a secret need not stand on the command line.
fn environment(given: &[String], cx: &Context) -> Result<BTreeMap<String, String>, Fail> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => match cx.environment.iter().find(|(key, _)| key == text) {
            Some((key, value)) => Ok((key.clone(), value.clone())),
            None => Err(Fail::usage(format!("--env {text}: there is no such variable in your environment"))
                .hint("write --env KEY=VALUE, or set the variable first")),
        },
    };
    given.iter().map(pair).collect()
}

/// Labels as they stand on the command line; `KEY` alone has an empty value.
pub(crate) fn labels(given: &[String]) -> Result<BTreeMap<String, String>, Fail> {
    let mut labels = BTreeMap::new();
    for text in given {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Fail::usage(format!("label {key:?} is given twice")).hint("give each label once"));
        }
    }
    Ok(labels)
}

#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// Its Docker id, all 64 digits.
    docker_id: String,
    /// The node it is on.
    #[arg(long)]
    node: String,
    /// Its name from now on.
    #[arg(long)]
    name: String,
    /// Its owner.
    #[arg(long)]
    user: String,
    /// Its size and price; the first flavor without GPUs unless named.
    #[arg(long)]
    flavor: Option<String>,
    /// The image it was made from, as Docker names it.
    #[arg(long)]
    image: Option<String>,
    /// The index of a GPU that it holds.
    #[arg(long, value_name = "INDEX")]
    gpu: Vec<u32>,
}

pub(crate) async fn adopt(args: AdoptArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let request = AdoptRequest {
        docker_id: args.docker_id,
        name: args.name,
        user: args.user,
        project: cx.global.project.clone(),
        flavor: args.flavor,
        image: args.image,
        gpus: args.gpu,
    };
    let container: Container = client.post(&["nodes", &args.node, "adopt"], &request).await?;
    cx.show(&container, |c| {
        format!("adopted container {} as {}, of {} in project {}", c.id, c.name, c.user, c.project)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_given_or_taken() {
        let cx = Context {
            global: crate::context::Global::default(),
            environment: vec![("TOKEN".into(), "t=1".into())],
        };
        let given = ["A=b=c".to_owned(), "TOKEN".to_owned(), "EMPTY=".to_owned()];
        let env = environment(&given, &cx).unwrap();
        assert_eq!((env["A"].as_str(), env["TOKEN"].as_str(), env["EMPTY"].as_str()), ("b=c", "t=1", ""));
        assert!(environment(&["NONE".to_owned()], &cx).unwrap_err().message.contains("NONE"));
    }
}
