//! Images: recording, overwriting, what still needs a digest, listing.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use mothball_domain::container::{Container, Source};
use mothball_domain::image::Image;
use mothball_domain::job::{JobSpec, Then};
use mothball_store::{Effect, Outcome, Recorded, Target};

async fn ready(w: &World) -> Result<Container> {
    w.node("n1", 0).await?;
    w.launched("box", 0).await
}

async fn found(w: &World, text: &str) -> Result<Image> {
    w.store.image(&project("p"), &image(text)).await?.with_context(|| format!("no image {text}"))
}

pub(crate) async fn a_saved_image_is_recorded(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let job = w.saved(&container, "base:v1", 1).await?;
    let image = found(w, "base:v1").await?;
    ensure!(image.digest == digest(1) && image.size_bytes == 1001 && image.layers == 3);
    ensure!(
        image.created_by == user("ann")
            && image.source_container == Some(container.id)
            && image.job == job.id
    );
    ensure!(image.created_at == image.updated_at && image.previous.is_empty() && !image.pinned);
    ensure!(w.job(job.id).await?.checkpoint.recorded, "the checkpoint is not part of the same step");
    Ok(())
}

pub(crate) async fn overwriting_moves_updated_at_and_remembers_the_digest(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.saved(&container, "base:v1", 1).await?;
    let first = found(w, "base:v1").await?;
    w.store.pin_image(&project("p"), &image("base:v1"), true).await?;
    w.saved(&container, "base:v1", 2).await?;
    let second = found(w, "base:v1").await?;
    ensure!(second.created_at == first.created_at && second.updated_at > first.updated_at && second.pinned);
    ensure!(second.digest == digest(2) && second.previous[0].digest == digest(1));
    ensure!(second.previous[0].size_bytes == 1001 && second.previous[0].replaced_at == second.updated_at);
    for number in 3..20 {
        w.saved(&container, "base:v1", number).await?;
    }
    let last = found(w, "base:v1").await?;
    ensure!(last.previous.len() == 10 && last.previous[0].digest == digest(18), "{:?}", last.previous);
    ensure!(w.store.images(&project("p"), None, 9).await?.items.len() == 1);
    Ok(())
}

pub(crate) async fn a_save_repeated_changes_no_history(w: &World) -> Result<()> {
    let container = ready(w).await?;
    w.saved(&container, "base:v1", 1).await?;
    let job = w.new_job(&request(snapshot("base:v1", Then::Keep), Target::Container(container.id))).await?;
    let held = w.claimed(&job).await?;
    for _ in 0..3 {
        ensure!(
            w.store.record_image(job.id, held.fence, &draft(2)).await? == Recorded::Held { cancel: false }
        );
    }
    w.settled(&held, Outcome::Succeeded(Effect::None)).await?;
    let image = found(w, "base:v1").await?;
    ensure!(image.previous.len() == 1 && image.previous[0].digest == digest(1));
    Ok(())
}

pub(crate) async fn digests_that_something_needs_are_known(w: &World) -> Result<()> {
    let container = ready(w).await?;
    let needed = async |number: u8, except: &str| {
        let (name, digest, except) = (image_name("base"), digest(number), image(except));
        anyhow::Ok(w.store.content_need(&project("p"), &name, &digest, Some(&except)).await?.is_some())
    };
    w.saved(&container, "base:v1", 1).await?;
    ensure!(!needed(1, "base:v1").await?);
    w.saved(&container, "base:alias", 1).await?;
    ensure!(needed(1, "base:v1").await?, "another tag has it");
    w.saved(&container, "base:alias", 2).await?;
    ensure!(needed(1, "base:v1").await?, "another tag may be rolled back to it");
    ensure!(needed(1, "base:alias").await?, "v1 has it");
    w.saved(&container, "other:v1", 3).await?;
    ensure!(!needed(3, "base:v1").await?, "another name is another repository");

    w.parked(&container, "base:parked").await?;
    w.saved(&w.launched("second", 0).await?, "base:unused", 4).await?;
    ensure!(needed(1, "base:parked").await?, "a parked container wakes from it");
    let source = Source::Custom { image: image("base:unused"), digest: digest(4), reference: "r".into() };
    let mut target = new_container("third", 0);
    if let Target::New(new) = &mut target {
        new.launch.source = source;
    }
    ensure!(!needed(4, "base:unused").await?);
    let launch = w.new_job(&request(JobSpec::Launch, target)).await?;
    ensure!(needed(4, "base:unused").await?, "a launch under way needs it");
    w.ended(&launch, failed(permanent(), LONG)).await?;
    ensure!(needed(4, "base:unused").await?, "a failed launch may be tried again");
    w.deleted(&w.container(launch.container.context("a container")?).await?).await?;
    ensure!(!needed(4, "base:unused").await?);
    Ok(())
}

pub(crate) async fn images_are_listed_by_page_and_pinned(w: &World) -> Result<()> {
    let container = ready(w).await?;
    for tag in ["b", "a", "C", "10", "9"] {
        w.saved(&container, &format!("base:{tag}"), 1).await?;
    }
    w.saved(&container, "aaa:z", 1).await?;
    let (mut met, mut after) = (Vec::new(), None);
    loop {
        let page = w.store.images(&project("p"), after.as_deref(), 2).await?;
        met.extend(page.items.iter().map(|i| i.image.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    ensure!(met == ["aaa:z", "base:10", "base:9", "base:C", "base:a", "base:b"], "{met:?}");
    ensure!(w.store.images(&project("q"), None, 9).await?.items.is_empty());
    let pinned = w.store.pin_image(&project("p"), &image("base:a"), true).await?;
    ensure!(pinned.is_some_and(|i| i.pinned) && found(w, "base:a").await?.pinned);
    ensure!(w.store.pin_image(&project("p"), &image("base:none"), true).await?.is_none());
    Ok(())
}
