//! Images that were deleted or overwritten come back within their grace, and are gone from the registry after it; policies
//! give notice, then remove, and leave alone what somebody needs. The store's clock is moved, so that a month takes a second;
//! the registry is asked by plain HTTP.

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use mothball_harness::clock::Clock;
use mothball_harness::http::Api;
use mothball_harness::system::{BASE, JOB_LIMIT, Pair, System};
use mothball_harness::wait::try_eventually;
use mothball_tests::flow::{self, Launched, root, text};
use mothball_tests::image::tagged;
use serde_json::{Value, json};
use std::cell::Cell;

use crate::faults::SOON;

mothball_tests::on_both_pairs!(
    what_was_deleted_or_overwritten_comes_back,
    what_is_over_its_grace_is_gone_from_the_registry,
    a_policy_gives_notice_then_removes_and_leaves_alone_what_is_needed,
);

/// Where images of the base lie in the registry.
const REPOSITORY: &str = "default/base";

/// A system whose store's clock is moved.
struct Ages {
    clock: Clock,
    ahead: Cell<SignedDuration>,
    system: System,
    api: Api,
}

impl Ages {
    async fn begin(pair: Pair) -> Result<Self> {
        let clock = Clock::new()?;
        let options = System::options(pair)
            .clock(&clock)?
            .env("MOTHBALL_SCHEDULER__TICK", "200ms")
            .env("MOTHBALL_RETENTION__TICK", "300ms")
            // However far the clock moves, the node does not count as silent before it reports again.
            .env("MOTHBALL_WORKER__ALIVE_WITHIN", "100000h");
        let system = options.start().await?;
        let api = system.operator()?;
        Ok(Self { clock, ahead: Cell::new(SignedDuration::ZERO), system, api })
    }

    /// Lets time pass for the store, and waits until it has noticed.
    async fn pass(&self, hours: i64) -> Result<()> {
        self.ahead.set(self.ahead.get() + SignedDuration::from_hours(hours));
        self.clock.set(self.ahead.get())?;
        let expected = Timestamp::now() + self.ahead.get();
        try_eventually(SOON, "the store to see its clock", async || {
            // The next full minute by that clock.
            let path = "/v1/schedules/preview?cron=%2A+%2A+%2A+%2A+%2A";
            let ahead = self.api.get(path).await?.expect(200)?;
            let next: Timestamp = text(&ahead["next"][0]).parse().context("read a time")?;
            Ok((next >= expected).then_some(()))
        })
        .await
    }

    /// A command that must end with 0; what it printed.
    async fn cli(&self, args: &[&str]) -> Result<String> {
        self.system.api.cli(args).await?.success()
    }

    /// The same as JSON.
    async fn json(&self, args: &[&str]) -> Result<Value> {
        self.system.api.cli(&[&["-o", "json"], args].concat()).await?.json()
    }

    /// The digest that the registry has under a tag or a digest, asked by plain HTTP.
    async fn in_registry(&self, reference: &str) -> Result<Option<String>> {
        tagged(&self.system.registry.url(), REPOSITORY, reference).await
    }

    /// Waits until the registry has, or has not, a manifest and the tag of Mothball's own that keeps it.
    async fn wait_registry(&self, digest: &str, has: bool) -> Result<()> {
        let hidden = format!("_mothball-{}", &digest["sha256:".len()..][..32]);
        let what = format!("{digest} to be {}", if has { "there" } else { "gone" });
        try_eventually(SOON, &what, async || {
            let found =
                [self.in_registry(digest).await?.is_some(), self.in_registry(&hidden).await?.is_some()];
            Ok((found == [has, has]).then_some(()))
        })
        .await
    }

    /// Writes a line into a container and saves it; what the image is then.
    async fn save(&self, container: &Launched, tag: &str, line: &str) -> Result<String> {
        root(self.system.dockerd(), &container.docker_id, &format!("echo {line} > /note")).await?;
        flow::save_and_keep(&self.api, &container.id, tag).await?;
        Ok(text(&flow::image(&self.api, &format!("base:{tag}")).await?["digest"]))
    }

    /// What a container launched from an image has in the file.
    async fn note_of(&self, name: &str, image: &str) -> Result<String> {
        let container = flow::launch(&self.api, name, image).await?;
        root(self.system.dockerd(), &container.docker_id, "cat /note").await
    }

    /// Deletes an image by the command line.
    async fn delete(&self, image: &str) -> Result<()> {
        self.cli(&["images", "delete", image, "--yes", "--wait"]).await.map(drop)
    }

    /// The images in the list, by tag.
    async fn tags(&self) -> Result<Vec<String>> {
        let list = self.api.get("/v1/images").await?.expect(200)?;
        Ok(list["items"].as_array().into_iter().flatten().map(|image| text(&image["tag"])).collect())
    }

    async fn wait_tags(&self, tags: &[&str]) -> Result<()> {
        let mut seen = Vec::new();
        let found = try_eventually(SOON, "the list of images", async || {
            seen = self.tags().await?;
            Ok((seen == tags).then_some(()))
        });
        found.await.with_context(|| format!("{tags:?} are expected, the list has {seen:?}"))
    }

    /// Waits until the job that has the registry's tag follow a restore, or anything else of this kind, is over; the newest.
    async fn wait_job(&self, kind: &str) -> Result<Value> {
        let path = format!("/v1/jobs?all=true&kind={kind}");
        let list = self.api.get(&path).await?.expect(200)?;
        let id = list["items"][0]["id"].as_str().with_context(|| format!("no {kind} job in {list:#}"))?;
        self.api.wait_success(id, JOB_LIMIT).await
    }

    /// How often the audit trail names an action.
    async fn done(&self, action: &str) -> Result<usize> {
        let trail = self.api.get("/v1/audit?project=default&limit=200").await?.expect(200)?;
        Ok(trail["items"].as_array().into_iter().flatten().filter(|entry| entry["action"] == action).count())
    }

    /// What the preview says of each image: its tag, whether it goes, and why or why not.
    async fn preview(&self) -> Result<Vec<(String, bool, String)>> {
        let found = self.json(&["policy", "retention", "preview"]).await?;
        let one = |f: &Value| {
            let tag = text(&f["image"]).trim_start_matches("base:").to_owned();
            (tag, f["goes"] == true, text(&f["because"]))
        };
        Ok(found.as_array().into_iter().flatten().map(one).collect())
    }

    /// Waits until each of these images has, or has not, a notice of its removal.
    async fn wait_notices(&self, tags: &[&str]) -> Result<()> {
        let mut seen = Vec::new();
        let found = try_eventually(SOON, "the notices", async || {
            let list = self.api.get("/v1/images").await?.expect(200)?;
            let noticed = list["items"].as_array().into_iter().flatten().filter(|i| i["removal"].is_object());
            seen = noticed.map(|image| text(&image["tag"])).collect();
            Ok((seen == tags).then_some(()))
        });
        found.await.with_context(|| format!("notices for {tags:?} are expected, there are some for {seen:?}"))
    }
}

async fn what_was_deleted_or_overwritten_comes_back(pair: Pair) -> Result<()> {
    let ages = Ages::begin(pair).await?;
    let container = flow::launch(&ages.api, "box", BASE).await?;
    let first = ages.save(&container, "v1", "first").await?;
    let second = ages.save(&container, "v1", "second").await?;
    ensure!(first != second && ages.in_registry("v1").await?.as_deref() == Some(second.as_str()));

    // Overwritten: the tag goes back, in the store and in the registry, and what it named meanwhile can come back as well.
    ages.pass(70).await?;
    let shown = ages.cli(&["images", "--restorable"]).await?;
    ensure!(shown.contains("overwritten") && shown.contains("images restore base:v1 --previous"), "{shown}");
    let shown = ages.cli(&["images", "restore", "base:v1", "--previous"]).await?;
    ensure!(shown.contains(&first), "{shown}");
    ages.wait_job("restore_image").await?;
    ensure!(
        ages.in_registry("v1").await?.as_deref() == Some(first.as_str()),
        "the registry's tag does not follow"
    );
    ensure!(ages.note_of("from-first", "base:v1").await? == "first");
    // A grace of its own has begun for what was set aside.
    ages.pass(70).await?;
    let back = ages.json(&["images", "restore", "base:v1", "--to", &second]).await?;
    ensure!(back["digest"] == second.as_str(), "{back:#}");
    ages.wait_job("restore_image").await?;
    ensure!(ages.note_of("from-second", "base:v1").await? == "second");

    // Deleted: out of every list, still in the registry, and back with all that was known of it.
    let before = flow::image(&ages.api, "base:v1").await?;
    ages.delete("base:v1").await?;
    ages.api.get("/v1/images/base:v1").await?.problem(404)?;
    ensure!(ages.tags().await?.is_empty());
    let launch = json!({"name": "none", "image": "base:v1", "flavor": "cpu-small"});
    ages.api.post("/v1/containers", &launch).await?.problem(422)?;
    ages.wait_registry(&second, true).await?;
    let listed = ages.json(&["images", "--restorable"]).await?;
    ensure!(
        listed[0]["deleted_because"] == "deleted" && listed[0]["digest"] == second.as_str(),
        "{listed:#}"
    );
    ages.pass(70).await?;
    let shown = ages.cli(&["images", "restore", "base:v1"]).await?;
    ensure!(shown.contains(&second), "{shown}");
    ages.wait_job("restore_image").await?;
    let back = flow::image(&ages.api, "base:v1").await?;
    for field in ["digest", "created_at", "created_by", "size_bytes", "source_container", "job", "reference"]
    {
        ensure!(back[field] == before[field], "{field}: {back:#}");
    }
    ensure!(ages.in_registry("v1").await?.as_deref() == Some(second.as_str()));
    ensure!(ages.note_of("from-deleted", "base:v1").await? == "second");

    // Saved under the tag of a deleted image: that is what it was before.
    ages.delete("base:v1").await?;
    let third = ages.save(&container, "v1", "third").await?;
    let refused = ages.system.api.cli(&["images", "restore", "base:v1"]).await?;
    ensure!(refused.code == 1 && refused.stderr.contains("--previous"), "{refused:?}");
    let back = ages.json(&["images", "restore", "base:v1", "--previous"]).await?;
    ensure!(back["digest"] == second.as_str() && back["previous"][0]["digest"] == third.as_str(), "{back:#}");
    Ok(())
}

async fn what_is_over_its_grace_is_gone_from_the_registry(pair: Pair) -> Result<()> {
    let ages = Ages::begin(pair).await?;
    let container = flow::launch(&ages.api, "box", BASE).await?;
    let first = ages.save(&container, "v1", "first").await?;
    let second = ages.save(&container, "v1", "second").await?;
    let parked = flow::launch(&ages.api, "parked", BASE).await?;
    root(ages.system.dockerd(), &parked.docker_id, "echo parked > /note").await?;
    let job = ages
        .api
        .post(&format!("/v1/containers/{}/park", parked.id), &json!({"tag": "p"}))
        .await?
        .job_id(202)?;
    ages.api.wait_success(&job, JOB_LIMIT).await?;
    let needed = text(&flow::image(&ages.api, "base:p").await?["digest"]);
    ages.delete("base:p").await?;
    for digest in [&first, &second, &needed] {
        ages.wait_registry(digest, true).await?;
    }

    ages.pass(71).await?;
    ages.wait_registry(&first, true).await?;
    ages.pass(2).await?;
    // The overwritten one goes, and our own tag with it; what its tag names now stays.
    ages.wait_registry(&first, false).await?;
    ages.wait_registry(&second, true).await?;
    let purged = ages.wait_job("purge_image").await?;
    ensure!(purged["digest"] == first.as_str() && purged["image"] == "base:v1", "{purged:#}");
    ensure!(flow::image(&ages.api, "base:v1").await?["previous"] == json!([]));
    let refused = ages.system.api.cli(&["images", "restore", "base:v1", "--previous"]).await?;
    ensure!(refused.code == 1 && refused.stderr.contains("nothing to restore"), "{refused:?}");

    // What the parked container needs is kept, though nobody can restore its image any more: it wakes from it.
    let answer = ages.api.post("/v1/images/base:p/restore", &json!({})).await?;
    ensure!(answer.status == 404, "{}", answer.json);
    ages.wait_registry(&needed, true).await?;
    let job = ages.api.post(&format!("/v1/containers/{}/wake", parked.id), &json!({})).await?.job_id(202)?;
    ages.api.wait_success(&job, JOB_LIMIT).await?;
    let woken = flow::launched(&ages.api, &parked.id).await?;
    ensure!(root(ages.system.dockerd(), &woken.docker_id, "cat /note").await? == "parked");
    // Awake it needs the image no more.
    ages.pass(1).await?;
    ages.wait_registry(&needed, false).await?;

    ages.delete("base:v1").await?;
    ages.pass(71).await?;
    ages.wait_registry(&second, true).await?;
    ages.pass(2).await?;
    ages.wait_registry(&second, false).await?;
    ensure!(ages.in_registry("v1").await?.is_none(), "the tag outlived what it named");
    ensure!(ages.json(&["images", "--restorable"]).await? == json!([]));
    ensure!(ages.done("image.purge").await? == 3, "each content goes by one job");
    // The very same name is free for whatever comes.
    ages.save(&container, "v1", "third").await?;
    ensure!(ages.note_of("later", "base:v1").await? == "third");
    Ok(())
}

async fn a_policy_gives_notice_then_removes_and_leaves_alone_what_is_needed(pair: Pair) -> Result<()> {
    let ages = Ages::begin(pair).await?;
    let second = match pair {
        Pair::Embedded => None,
        Pair::Servers => Some(ages.system.another("scheduler").start().await?),
    };
    let container = flow::launch(&ages.api, "box", BASE).await?;
    let parked = flow::launch(&ages.api, "parked", BASE).await?;
    let job = ages
        .api
        .post(&format!("/v1/containers/{}/park", parked.id), &json!({"tag": "p"}))
        .await?
        .job_id(202)?;
    ages.api.wait_success(&job, JOB_LIMIT).await?;
    let mut digests = Vec::new();
    for tag in ["v1", "v2", "v3", "v4"] {
        digests.push(ages.save(&container, tag, tag).await?);
    }
    ages.cli(&["images", "pin", "base:v1"]).await?;

    // Looked ahead first: nothing happens by that.
    let shown = ages.cli(&["policy", "retention", "preview", "--keep-last", "2"]).await?;
    ensure!(shown.contains("1 of 5 go") && shown.contains("container parked needs it"), "{shown}");
    let shown = ages.cli(&["policy", "retention", "set", "--keep-last", "2"]).await?;
    ensure!(shown.contains("2 of each name"), "{shown}");
    ages.wait_notices(&["v2"]).await?;
    let told = |tag: &str, goes: bool, because: &str| (tag.to_owned(), goes, because.to_owned());
    let expected = [
        told("p", false, "needed"),
        told("v1", false, "pinned"),
        told("v2", true, "not_among_last"),
        told("v3", false, "among_last"),
        told("v4", false, "among_last"),
    ];
    let preview = ages.preview().await?;
    ensure!(preview == expected, "{preview:?}");
    let noticed = flow::image(&ages.api, "base:v2").await?;
    ensure!(ages.cli(&["images", "show", "base:v2"]).await?.contains("goes:"), "{noticed:#}");

    // A pin within the time of the notice keeps it.
    ages.pass(71).await?;
    ages.cli(&["images", "pin", "base:v2"]).await?;
    ages.wait_notices(&[]).await?;
    ages.pass(2).await?;
    ages.cli(&["images", "pin", "base:v2", "--off"]).await?;
    // It has the whole time again.
    ages.wait_notices(&["v2"]).await?;
    ages.wait_tags(&["p", "v1", "v2", "v3", "v4"]).await?;
    ages.pass(73).await?;
    ages.wait_tags(&["p", "v1", "v3", "v4"]).await?;
    ages.wait_job("delete_image").await?;
    let gone = ages.json(&["images", "--restorable"]).await?;
    ensure!(gone[0]["deleted_because"] == "retention" && gone[0]["tag"] == "v2", "{gone:#}");
    ages.wait_registry(&digests[1], true).await?;
    ensure!(ages.done("retention.notice").await? == 2 && ages.done("retention.withdraw").await? == 1);
    ensure!(ages.done("retention.remove").await? == 1);

    // Brought back, and launched from.
    ages.cli(&["images", "restore", "base:v2"]).await?;
    ages.wait_job("restore_image").await?;
    ensure!(ages.note_of("second", "base:v2").await? == "v2");

    // Unused for a month: what was launched from meanwhile stays, and so does what runs.
    let shown = ages.cli(&["policy", "retention", "set", "--unused-days", "30"]).await?;
    ensure!(shown.contains("within 30 d"), "{shown}");
    ages.wait_notices(&[]).await?;
    ages.pass(31 * 24).await?;
    ages.wait_notices(&["v3", "v4"]).await?;
    ensure!(ages.note_of("fourth", "base:v4").await? == "v4");
    ages.wait_notices(&["v3"]).await?;
    ages.pass(73).await?;
    ages.wait_tags(&["p", "v1", "v2", "v4"]).await?;
    ages.wait_registry(&digests[2], true).await?;
    ages.pass(73).await?;
    ages.wait_registry(&digests[2], false).await?;
    for digest in [&digests[0], &digests[1], &digests[3]] {
        ages.wait_registry(digest, true).await?;
    }
    ensure!(ages.done("retention.remove").await? == 2 && ages.done("image.purge").await? == 1);

    // What is parked wakes, though nobody has used its image for months.
    let job = ages.api.post(&format!("/v1/containers/{}/wake", parked.id), &json!({})).await?.job_id(202)?;
    ages.api.wait_success(&job, JOB_LIMIT).await?;
    let shown = ages.cli(&["policy", "retention", "off"]).await?;
    ensure!(shown.contains("No image of project default is removed"), "{shown}");
    ages.wait_notices(&[]).await?;
    drop(second);
    Ok(())
}
