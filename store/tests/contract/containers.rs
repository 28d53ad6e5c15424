//! Containers: what nodes see of them, adopting, forgetting, changing, listing.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use mothball_domain::container::{Container, ContainerState, Mount, Port, Source};
use mothball_domain::id::ContainerId;
use mothball_domain::job::{JobSpec, Then};
use mothball_store::{
    AdoptedContainer, ContainerChange, ContainerQuery, Effect, Observed, Outcome, SeenLaunch, Submission,
    Submitted, Target,
};

async fn see(w: &World, container: &Container, running: Option<bool>) -> Result<Container> {
    let docker_id = container.docker_id.clone().context("a Docker id")?;
    let seen = Observed { id: container.id, docker_id, running, writable_bytes: Some(7) };
    w.store.observe("n1", &seen).await?;
    w.container(container.id).await
}

pub(crate) async fn what_a_node_sees_is_written_down(w: &World) -> Result<()> {
    w.node("n1", 1).await?;
    let container = w.launched("box", 1).await?;
    let seen = see(w, &container, Some(true)).await?;
    ensure!(seen.state == ContainerState::Ready && seen.writable_bytes == Some(7));
    let stopped = see(w, &container, Some(false)).await?;
    ensure!(stopped.state == ContainerState::Stopped && stopped.metered == container.metered);
    ensure!(see(w, &container, Some(true)).await?.state == ContainerState::Ready);
    let lost = see(w, &container, None).await?;
    ensure!(lost.state == ContainerState::Lost && lost.reason.is_some() && lost.metered[0].to.is_some());
    ensure!(lost.gpus == [0], "a container that is not there for a moment loses its GPUs");
    ensure!(see(w, &container, None).await? == lost, "seeing it twice changes something");
    Ok(())
}

pub(crate) async fn what_a_node_sees_of_others_or_of_busy_ones_is_not(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    let seen = Observed { id: container.id, docker_id: "d-box".into(), running: None, writable_bytes: None };
    w.store.observe("another-uid", &seen).await?;
    w.store.observe("n1", &Observed { docker_id: "another".into(), ..seen.clone() }).await?;
    w.store.observe("n1", &Observed { id: ContainerId(999), ..seen.clone() }).await?;
    ensure!(w.container(container.id).await? == container);
    let job = w.new_job(&request(snapshot("base:v1", Then::Delete), Target::Container(container.id))).await?;
    let busy = w.container(container.id).await?;
    w.store.observe("n1", &seen).await?;
    ensure!(w.container(container.id).await? == busy, "its job does not have the last word");
    w.ended(&job, Outcome::Succeeded(Effect::Removed)).await?;
    let deleted = w.container(container.id).await?;
    w.store.observe("n1", &Observed { running: Some(true), ..seen }).await?;
    ensure!(w.container(container.id).await? == deleted);
    Ok(())
}

pub(crate) async fn a_lost_container_that_comes_back_is_billed_again(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    see(w, &container, None).await?;
    let back = see(w, &container, Some(true)).await?;
    ensure!(back.state == ContainerState::Ready && back.metered.len() == 2 && back.reason.is_none());
    Ok(())
}

fn found(name: &str, docker_id: &str, gpus: Vec<u32>) -> AdoptedContainer {
    let mut launch = launch_with(gpus.len() as u32);
    launch.source = Source::Adopted { reference: "somebody/made:it".into() };
    AdoptedContainer {
        name: container_name(name),
        project: project("p"),
        user: user("ann"),
        launch,
        image_name: image_name("it"),
        node: node_name("n1"),
        node_uid: "n1".into(),
        docker_id: docker_id.into(),
        gpus,
        ports: Vec::new(),
        running: true,
    }
}

pub(crate) async fn an_adopted_container_is_one_like_the_others(w: &World) -> Result<()> {
    w.node("n1", 2).await?;
    let adopted = found("box", "d-old", vec![1]);
    let container = w.store.adopt(&adopted).await?.ok().context("adopted")?;
    ensure!(container.state == ContainerState::Ready && container.adopted && container.metered.len() == 1);
    ensure!(w.store.adopt(&adopted).await? == Ok(container.clone()), "it is idempotent");
    ensure!(w.launched("other", 1).await?.gpus == [0], "an adopted container's GPU was given away");
    let asleep = AdoptedContainer { running: false, ..found("asleep", "d-2", Vec::new()) };
    ensure!(w.store.adopt(&asleep).await?.is_ok_and(|c| c.state == ContainerState::Stopped));
    w.saved(&container, "it:v1", 1).await?;
    w.deleted(&container).await?;
    ensure!(w.store.nodes().await?[0].1.gpus_held() == 1);
    Ok(())
}

pub(crate) async fn what_an_adopted_container_was_launched_with_is_written_down(w: &World) -> Result<()> {
    w.node("n1", 1).await?;
    let container = w.store.adopt(&found("box", "d-old", Vec::new())).await?.ok().context("adopted")?;
    let seen = SeenLaunch {
        env: [("TOKEN".to_owned(), "secret".to_owned())].into(),
        mounts: vec![Mount { target: "/home/ann".into(), source: "/mnt/ann".into() }],
        ports: vec![8080],
        published: vec![Port { target: 8080, published: Some(32_768) }],
    };
    ensure!(!format!("{seen:?}").contains("secret"), "{seen:?}");
    // Of another Docker, or of another container of this one: it says nothing of ours.
    w.store.record_launch("n2", container.id, "d-old", &seen).await?;
    w.store.record_launch("n1", container.id, "d-new", &seen).await?;
    w.store.record_launch("n1", ContainerId(99), "d-old", &seen).await?;
    ensure!(w.container(container.id).await? == container);
    for _ in 0..2 {
        w.store.record_launch("n1", container.id, "d-old", &seen).await?;
        let known = w.container(container.id).await?;
        ensure!(seen.is_in(&known) && known.state == container.state && known.metered == container.metered);
    }
    // Where it does not run its ports are not to be reached, and stay those that it publishes.
    let stopped = SeenLaunch { published: Vec::new(), ..seen.clone() };
    w.store.record_launch("n1", container.id, "d-old", &stopped).await?;
    ensure!(w.container(container.id).await?.launch.ports == [8080]);
    let ours = w.launched("ours", 0).await?;
    let docker_id = ours.docker_id.clone().context("a Docker id")?;
    w.store.record_launch("n1", ours.id, &docker_id, &seen).await?;
    ensure!(w.container(ours.id).await? == ours, "what Mothball launched is not asked of Docker");
    Ok(())
}

pub(crate) async fn an_adoption_that_collides_names_the_other(w: &World) -> Result<()> {
    w.node("n1", 2).await?;
    let there = w.launched("box", 1).await?;
    for (adopted, what) in [
        (found("box", "d-old", Vec::new()), "name"),
        (found("other", "d-box", Vec::new()), "Docker id"),
        (found("other", "d-old", vec![0]), "GPU"),
    ] {
        ensure!(w.store.adopt(&adopted).await? == Err(there.id), "{what}");
    }
    ensure!(w.all_containers().await?.len() == 1);
    Ok(())
}

pub(crate) async fn of_two_adoptions_at_once_one_counts(w: &World) -> Result<()> {
    w.node("n1", 2).await?;
    let (one, two) = (found("one", "d-old", Vec::new()), found("two", "d-old", Vec::new()));
    let (one, two) = tokio::join!(w.store.adopt(&one), w.store.adopt(&two));
    ensure!(one?.is_ok() != two?.is_ok());
    ensure!(w.all_containers().await?.len() == 1);
    Ok(())
}

pub(crate) async fn only_what_is_lost_or_failed_is_forgotten(w: &World) -> Result<()> {
    w.node("n1", 1).await?;
    let container = w.launched("box", 1).await?;
    ensure!(
        !w.store.forget_container(container.id).await? && !w.store.forget_container(ContainerId(99)).await?
    );
    see(w, &container, None).await?;
    let deletion = w.new_job(&request(JobSpec::Delete, Target::Container(container.id))).await?;
    ensure!(!w.store.forget_container(container.id).await?, "a busy one was forgotten");
    w.ended(&deletion, failed(permanent(), LONG)).await?;
    ensure!(w.store.forget_container(container.id).await?);
    ensure!(!w.store.forget_container(container.id).await?, "forgotten twice");
    ensure!(w.container(container.id).await?.state == ContainerState::Deleted);
    let job = w.new_job(&request(JobSpec::Launch, new_container("box", 1))).await?;
    w.ended(&job, failed(permanent(), LONG)).await?;
    ensure!(w.store.forget_container(job.container.context("a container")?).await?);
    Ok(())
}

pub(crate) async fn owners_change_what_is_theirs(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    let until = jiff::Timestamp::from_second(4_000_000_000)?;
    let change = ContainerChange {
        description: Some("training".into()),
        labels: Some(labels("team=vision")),
        keep_until: Some(Some(until)),
        protected: None,
    };
    let changed = w.store.change_container(container.id, &change).await?.context("changed")?;
    ensure!(changed.description == "training" && changed.keep_until == Some(until) && !changed.protected);
    ensure!(changed.labels == labels("team=vision"));
    let change =
        ContainerChange { protected: Some(true), keep_until: Some(None), ..ContainerChange::default() };
    let changed = w.store.change_container(container.id, &change).await?.context("changed")?;
    ensure!(changed.description == "training" && changed.keep_until.is_none() && changed.protected);
    ensure!(changed.labels == labels("team=vision"));
    ensure!(w.container(container.id).await? == changed);
    ensure!(w.store.change_container(ContainerId(99), &change).await?.is_none());
    w.store
        .change_container(container.id, &ContainerChange { protected: Some(false), ..change.clone() })
        .await?;
    w.deleted(&container).await?;
    ensure!(w.store.change_container(container.id, &change).await?.is_none());
    Ok(())
}

pub(crate) async fn containers_are_listed_by_page_and_filter(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    for i in 0..12 {
        w.launched(&format!("box{i}"), 0).await?;
    }
    let bobs = request(JobSpec::Launch, new_container("bobs", 0));
    w.new_job(&by("bob", &bobs)).await?;
    let foreign =
        Submission { project: project("q"), ..request(JobSpec::Launch, new_container("foreign", 0)) };
    ensure!(matches!(w.store.submit(&foreign).await?, Submitted::New(_)));
    let gone = w.store.container_named(&project("p"), &container_name("box3")).await?.context("box3")?;
    w.deleted(&gone).await?;

    let of_p = ContainerQuery { project: Some(project("p")), limit: 5, ..ContainerQuery::default() };
    let (mut names, mut query) = (Vec::new(), of_p.clone());
    loop {
        let page = w.store.containers(&query).await?;
        ensure!(page.items.len() == 5 || page.next.is_none());
        names.extend(page.items.iter().map(|c| c.name.to_string()));
        let Some(next) = page.next else { break };
        query.cursor = Some(next.parse()?);
    }
    let mut expected: Vec<String> = (0..12).filter(|i| *i != 3).map(|i| format!("box{i}")).collect();
    expected.push("bobs".into());
    ensure!(names == expected, "{names:?}");
    let count = async |query: ContainerQuery| anyhow::Ok(w.store.containers(&query).await?.items.len());
    let all = ContainerQuery { limit: 99, ..ContainerQuery::default() };
    ensure!(count(all.clone()).await? == 13);
    ensure!(count(ContainerQuery { user: Some(user("bob")), ..all.clone() }).await? == 1);
    ensure!(count(ContainerQuery { node: Some(node_name("n1")), ..all.clone() }).await? == 13);
    ensure!(count(ContainerQuery { state: Some(ContainerState::Initializing), ..all }).await? == 2);
    ensure!(
        w.store.containers(&ContainerQuery { limit: 12, ..of_p }).await?.next.is_none(),
        "an empty last page"
    );
    let counts = w.store.container_counts().await?;
    let of = |state| counts.iter().find(|(s, _)| *s == state).map(|(_, count)| *count);
    ensure!(of(ContainerState::Ready) == Some(11) && of(ContainerState::Lost) == Some(0), "{counts:?}");
    Ok(())
}
