//! Who does what, in which order: all saves of a container in turn, round after round, then all launches.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::system::BASE;

use crate::args::Args;
use crate::limits;
use crate::measure::{Watch, free, used};
use crate::report::{Facts, Report, Sample};
use crate::rig::Rig;
use crate::rivals::{self, Action, Done, Rival, Who};
use crate::say;
use crate::workload::{self, Packages, Workload};

/// W3 goes on where W1 ends.
const IN_ORDER: [Workload; 4] = [Workload::W1, Workload::W3, Workload::W2, Workload::W4];
const SPARE_BYTES: u64 = 2_000_000_000;

/// Runs everything that was asked for.
pub(crate) async fn run(args: &Args) -> Result<Report> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("make {}", args.out.display()))?;
    let workloads = args.workloads();
    let packages = Packages::get(&args.out, args.size).await?;
    say("starting a private Docker Engine, private registries and Mothball");
    let rig = Rig::start(args.way, args.rivals.contains(&Rival::Buildah)).await?;
    let report = Report::new(args, Facts::find(&rig).await?);
    let mut contest = Contest { args, packages, rig, report, subject: None };
    // What was measured before a failure is worth its minutes.
    if let Err(error) = contest.hold_all(&workloads).await {
        contest.report.failure = Some(format!("The run ended early: {error:#}"));
    }
    Ok(contest.report)
}

struct Contest<'a> {
    args: &'a Args,
    packages: Packages,
    rig: Rig,
    report: Report,
    subject: Option<Subject>,
}

/// The container that is saved.
struct Subject {
    /// Its id in Mothball.
    id: String,
    /// Its id at Docker.
    docker_id: String,
    /// How many entries its workload has.
    entries: String,
    /// Which workload it was filled with.
    filled: Workload,
    /// The name of buildah's container with the same files, where buildah takes part.
    twin: Option<String>,
}

impl Contest<'_> {
    async fn hold_all(&mut self, workloads: &[Workload]) -> Result<()> {
        for workload in IN_ORDER.into_iter().filter(|workload| workloads.contains(workload)) {
            self.hold(workload).await.with_context(|| format!("run {}", workload.name()))?;
        }
        self.leave().await?;
        if self.args.profile {
            say("measuring this machine's own limits");
            self.report.limits = limits::measure(&self.packages.directory, &self.rig).await?;
        }
        Ok(())
    }

    async fn hold(&mut self, workload: Workload) -> Result<()> {
        let again = self.subject.as_ref().is_some_and(|subject| subject.filled == Workload::W1);
        if !(workload == Workload::W3 && again) {
            self.leave().await?;
            if let Some(why) = self.no_room(workload)? {
                say(&why);
                self.report.notes.push(why);
                return Ok(());
            }
            self.subject = Some(self.make(workload).await?);
        }
        if workload == Workload::W3 {
            say("W3: a save before the changes");
            self.rig.take_turn(Who::Mothball).await?;
            rivals::mothball_save(&self.rig.api()?, &self.subject()?.id, "w3-before").await?;
        }
        if workload == Workload::W1 {
            workload::start_writer(self.rig.dockerd(), &self.subject()?.docker_id).await?;
        }
        let mut images = (String::new(), String::new());
        for round in 1..=self.args.rounds(workload) {
            images = self.saves(workload, round).await?;
        }
        if workload == Workload::W1 {
            workload::stop_writer(self.rig.dockerd(), &self.subject()?.docker_id).await?;
        }
        self.launches(workload, &images).await
    }

    /// Says why a workload is left out where the disk cannot hold its copies.
    fn no_room(&self, workload: Workload) -> Result<Option<String>> {
        let layer = self.args.size.layer_bytes(workload);
        // The container, Docker's copy, what a registry holds; where registries are kept: theirs, buildah's two copies,
        // and a launched container.
        let needed = if frugal(workload) { layer * 11 / 4 } else { layer * 7 } + SPARE_BYTES;
        let free = free(self.rig.dockerd().directory())?;
        Ok((free < needed).then(|| {
            let gb = |bytes: u64| bytes as f64 / 1e9;
            format!(
                "{} was left out: it may take {:.1} GB of disk and {:.1} GB are free.",
                workload.name(),
                gb(needed),
                gb(free)
            )
        }))
    }

    async fn make(&mut self, workload: Workload) -> Result<Subject> {
        let name = workload.name().to_lowercase();
        say(&format!("{}: launching a container and filling it", workload.name()));
        let (id, _) = rivals::mothball_launch(&self.rig.api()?, &name, BASE).await?;
        let docker_id = self.docker_id(&id).await?;
        let dockerd = self.rig.dockerd();
        workload::fill(dockerd, &docker_id, workload, self.args.size, &self.packages).await?;
        let upper = ["inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", &docker_id];
        let upper = PathBuf::from(dockerd.docker(&upper).await?);
        self.report.layers.insert(workload, used(&upper)?);
        let mut twin = None;
        if let Some(buildah) = self.rig.buildah.as_ref().filter(|_| takes_part(Who::Buildah, workload)) {
            buildah.prepare(&name, &self.rig.base_archive().await?, &upper).await?;
            twin = Some(name);
        }
        let entries = self.entries(&docker_id).await?;
        let filled = if workload == Workload::W3 { Workload::W1 } else { workload };
        Ok(Subject { id, docker_id, entries, filled, twin })
    }

    /// One round: everybody saves the container once. The images of Mothball and of Docker, as one pulls them.
    async fn saves(&mut self, workload: Workload, round: u32) -> Result<(String, String)> {
        if workload == Workload::W3 {
            let container = self.subject()?.docker_id.clone();
            workload::change(self.rig.dockerd(), &container, self.args.size, round).await?;
            self.subject.as_mut().context("find the container")?.entries = self.entries(&container).await?;
        }
        let mut images = (String::new(), String::new());
        for who in self.savers(workload) {
            if workload != Workload::W3 || who != Who::Mothball {
                self.rig.empty_registry(who)?;
            }
            if frugal(workload) {
                for other in self.savers(workload) {
                    self.rig.empty_registry(other)?;
                }
            }
            let reference = self.save(workload, who, round).await?;
            match who {
                Who::Mothball => images.0 = reference,
                Who::Docker => images.1 = reference,
                _ => {}
            }
            self.rig.remove_images().await?;
        }
        Ok(images)
    }

    /// In the order of their turns. Mothball is the last, so that what it saved is there to be launched.
    fn savers(&self, workload: Workload) -> Vec<Who> {
        let rivals =
            [(Rival::Engine, Who::Engine), (Rival::Docker, Who::Docker), (Rival::Buildah, Who::Buildah)];
        let asked =
            rivals.into_iter().filter(|(rival, _)| self.args.rivals.contains(rival)).map(|(_, who)| who);
        asked.filter(|who| takes_part(*who, workload)).chain([Who::Mothball]).collect()
    }

    async fn save(&mut self, workload: Workload, who: Who, round: u32) -> Result<String> {
        self.rig.take_turn(who).await?;
        let subject = self.subject()?;
        let process = self.rig.dockerd().container_pid(&subject.docker_id).await?;
        let tag = format!("{}-{round}", workload.name().to_lowercase());
        let reference = format!("{}/bench/image:{tag}", self.rig.registry_of(who)?.address());
        let api = self.rig.api()?;
        // buildah's container is never frozen: nothing runs in it.
        let process = (who != Who::Buildah).then_some(process);
        let watch = Watch::begin(self.rig.watched(who, process)?)?;
        let done = match who {
            Who::Mothball | Who::Engine => {
                rivals::mothball_save(&api, &subject.id, &format!("{tag}-{}", u8::from(who == Who::Engine)))
                    .await
            }
            Who::Docker | Who::DockerOwn => {
                rivals::docker_save(self.rig.dockerd(), &subject.docker_id, &reference).await
            }
            Who::Buildah => {
                let buildah = self.rig.buildah.as_ref().context("find buildah")?;
                let twin = subject.twin.as_ref().context("find buildah's container")?;
                buildah.save(twin, &reference).await
            }
        };
        let figures = watch.end()?;
        let done = done.with_context(|| format!("save by {}", who.name(Action::Save)))?;
        let reference = done.reference.clone();
        self.take(Sample::new(workload, Action::Save, who, round, figures, done));
        Ok(reference)
    }

    async fn launches(&mut self, workload: Workload, images: &(String, String)) -> Result<()> {
        let expected = self.subject()?.entries.clone();
        self.rig.take_turn(Who::Mothball).await?;
        if frugal(workload) {
            self.leave().await?;
        }
        for round in 1..=self.args.rounds(workload) {
            if self.args.rivals.contains(&Rival::Docker) {
                self.pull(workload, Who::Docker, round, &images.0, &expected).await?;
                if !frugal(workload) {
                    self.pull(workload, Who::DockerOwn, round, &images.1, &expected).await?;
                }
            }
            self.launch(workload, round, &expected).await?;
        }
        Ok(())
    }

    async fn pull(
        &mut self,
        workload: Workload,
        who: Who,
        round: u32,
        image: &str,
        expected: &str,
    ) -> Result<()> {
        let dockerd = self.rig.dockerd();
        let watch = Watch::begin(self.rig.watched(who, None)?)?;
        let done = rivals::docker_launch(dockerd, "pulled", image).await;
        let figures = watch.end()?;
        let done = done.with_context(|| format!("launch by {}", who.name(Action::Launch)))?;
        self.is_whole("pulled", expected).await?;
        dockerd.docker(&["rm", "--force", "pulled"]).await?;
        self.rig.remove_images().await?;
        self.take(Sample::new(workload, Action::Launch, who, round, figures, done));
        Ok(())
    }

    async fn launch(&mut self, workload: Workload, round: u32, expected: &str) -> Result<()> {
        let api = self.rig.api()?;
        let tag = format!("{}-{}", workload.name().to_lowercase(), self.args.rounds(workload));
        let image = format!("{}:{tag}-0", BASE.split(':').next().unwrap_or(BASE));
        let name = format!("again-{tag}-{round}");
        let watch = Watch::begin(self.rig.watched(Who::Mothball, None)?)?;
        let done = rivals::mothball_launch(&api, &name, &image).await;
        let figures = watch.end()?;
        let (id, done): (String, Done) = done.context("launch by Mothball")?;
        self.is_whole(&self.docker_id(&id).await?, expected).await?;
        rivals::delete(&api, &id).await?;
        self.rig.remove_images().await?;
        self.take(Sample::new(workload, Action::Launch, Who::Mothball, round, figures, done));
        Ok(())
    }

    fn take(&mut self, sample: Sample) {
        say(&sample.line());
        self.report.samples.push(sample);
    }

    /// A launch that is fast because something is missing is no launch.
    async fn is_whole(&self, docker_id: &str, expected: &str) -> Result<()> {
        let found = self.entries(docker_id).await?;
        ensure!(found == expected, "the launched container has {found} entries instead of {expected}");
        Ok(())
    }

    async fn entries(&self, docker_id: &str) -> Result<String> {
        self.rig.dockerd().sh(docker_id, "find /opt | wc -l").await
    }

    async fn docker_id(&self, container: &str) -> Result<String> {
        let filter = format!("label=mothball.container={container}");
        let id = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter];
        self.rig.dockerd().docker(&id).await
    }

    fn subject(&self) -> Result<&Subject> {
        self.subject.as_ref().context("find the container")
    }

    /// Removes the container of the last workload.
    async fn leave(&mut self) -> Result<()> {
        let Some(subject) = self.subject.take() else { return Ok(()) };
        self.rig.take_turn(Who::Mothball).await?;
        rivals::delete(&self.rig.api()?, &subject.id).await?;
        if let (Some(buildah), Some(twin)) = (&self.rig.buildah, subject.twin) {
            buildah.remove(&twin).await?;
        }
        Ok(())
    }
}

/// Whether the disk is too dear for more than one registry's copy at a time, and for a second kind of launch.
fn frugal(workload: Workload) -> bool {
    workload == Workload::W4
}

/// buildah's container is a copy that does not change and takes the room of one: W1 and W2. The engine's way would make
/// the next direct save of W3 start from another image.
fn takes_part(who: Who, workload: Workload) -> bool {
    match who {
        Who::Buildah | Who::Engine => matches!(workload, Workload::W1 | Workload::W2),
        _ => true,
    }
}
