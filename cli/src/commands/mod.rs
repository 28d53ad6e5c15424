//! The commands, one file per noun.

mod completions;
mod config;
mod containers;
mod cost;
mod images;
mod jobs;
mod keys;
mod launch;
mod login;
mod manage;
mod nodes;
mod notify;
mod policy;
mod preflight;
mod projects;
mod save;
mod schedules;
mod submitted;
mod users;
mod webhooks;

pub(crate) use config::ConfigFile;

use crate::context::{Context, Global};
use crate::exit::Fail;
use clap::{Parser, Subcommand};

/// Saves GPU development containers as images, proves that they are safe, deletes them so that the bill stops, and
/// launches them again later, on any node.
#[derive(Debug, Parser)]
#[command(name = "mothball", version, about, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done; 1 the operation failed; 2 usage; 3 cannot reach the server; \
4 not allowed or not signed in.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the server: every role, or the ones that are named.
    Serve(crate::serve::ServeArgs),
    /// Prints the effective configuration, with secrets masked.
    Config(config::ConfigArgs),
    /// Checks everything that the server needs, and says what to do.
    Doctor(crate::doctor::DoctorArgs),
    /// Launches a container from a custom image or one of the catalogue.
    Launch(launch::LaunchArgs),
    /// Takes a container that Mothball did not launch under its care (operators).
    Adopt(launch::AdoptArgs),
    /// Lists containers, or shows one.
    #[command(visible_alias = "ps")]
    Containers(containers::ContainersArgs),
    /// Saves a container as an image; it goes on running unless it is to be deleted.
    Save(save::SaveArgs),
    /// Deletes containers.
    Delete(manage::DeleteArgs),
    /// Protects a container from deletion, or no longer.
    Protect(manage::ProtectArgs),
    /// Sets labels of a container, by which schedules choose, or takes them away.
    Label(manage::LabelArgs),
    /// Starts a stopped container.
    Start(manage::StartArgs),
    /// Stops a container without deleting it.
    Stop(manage::StopArgs),
    /// Keeps policies and schedules away from a container until a time.
    Keep(manage::KeepArgs),
    /// Saves a container, proves the image and deletes the container, so that it can be woken by its name.
    Park(save::ParkArgs),
    /// Launches a parked container again.
    Wake(save::WakeArgs),
    /// Lists jobs, or shows, watches, cancels or retries one.
    Jobs(jobs::JobsArgs),
    /// Lists images, or shows, deletes, restores or pins one.
    Images(images::ImagesArgs),
    /// Shows what containers have cost, and what parking them has saved.
    Cost(cost::CostArgs),
    /// Shows or sets when containers of a project are parked without anybody asking.
    Policy(policy::PolicyArgs),
    /// Lists schedules, makes them, looks ahead and back: what is done to containers by the clock.
    Schedules(schedules::SchedulesArgs),
    /// Shows or sets what you are told of by e-mail, and what you were told.
    Notify(notify::NotifyArgs),
    /// Lists webhooks of a project, makes, tries and changes them, and shows what they were sent (project admins).
    Webhooks(webhooks::WebhooksArgs),
    /// Lists flavors and their prices.
    Flavors,
    /// Lists nodes, or drains, resumes or forgets one (operators).
    Nodes(nodes::NodesArgs),
    /// Lists projects, makes them, manages their members and quotas.
    Projects(projects::ProjectsArgs),
    /// Lists, makes and disables users (operators and project admins).
    Users(users::UsersArgs),
    /// Lists, makes and revokes API keys.
    Keys(keys::KeysArgs),
    /// Signs in to a server: checks a key and saves it.
    Login(login::LoginArgs),
    /// Forgets the saved key of a server.
    Logout,
    /// Shows who is signed in, and where.
    Whoami,
    /// Prints a completion script for a shell.
    Completions(completions::CompletionsArgs),
    /// Thaws a container if the worker that froze it dies.
    #[command(hide = true)]
    Guard(crate::guard::GuardArgs),
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Fail> {
        match self {
            Self::Serve(args) => crate::serve::run(args, cx).await,
            Self::Config(args) => config::run(&args, cx),
            Self::Doctor(args) => Box::pin(crate::doctor::run(args, cx)).await,
            Self::Launch(args) => launch::launch(args, cx).await,
            Self::Adopt(args) => launch::adopt(args, cx).await,
            Self::Containers(args) => containers::run(args, cx).await,
            Self::Save(args) => save::save(args, cx).await,
            Self::Delete(args) => manage::delete(args, cx).await,
            Self::Protect(args) => manage::protect(args, cx).await,
            Self::Label(args) => manage::label(args, cx).await,
            Self::Start(args) => manage::start(args, cx).await,
            Self::Stop(args) => manage::stop(args, cx).await,
            Self::Keep(args) => manage::keep(args, cx).await,
            Self::Park(args) => save::park(args, cx).await,
            Self::Wake(args) => save::wake(args, cx).await,
            Self::Jobs(args) => jobs::run(args, cx).await,
            Self::Images(args) => images::run(args, cx).await,
            Self::Cost(args) => cost::run(args, cx).await,
            Self::Policy(args) => policy::run(args, cx).await,
            Self::Schedules(args) => schedules::run(args, cx).await,
            Self::Notify(args) => notify::run(args, cx).await,
            Self::Webhooks(args) => webhooks::run(args, cx).await,
            Self::Flavors => images::flavors(cx).await,
            Self::Nodes(args) => nodes::run(args, cx).await,
            Self::Projects(args) => projects::run(args, cx).await,
            Self::Users(args) => users::run(args, cx).await,
            Self::Keys(args) => keys::run(args, cx).await,
            Self::Login(args) => login::login(args, cx).await,
            Self::Logout => login::logout(cx),
            Self::Whoami => login::whoami(cx).await,
            Self::Completions(args) => {
                completions::run(&args);
                Ok(())
            }
            Self::Guard(args) => crate::guard::run(args).await,
        }
    }
}
