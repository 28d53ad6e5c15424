//! `mothball notify`: what a user is told of by e-mail.

use crate::context::{Context, local};
use crate::exit::Fail;
use crate::output;
use clap::{Args, Subcommand};
use mothball_api::v1::views::{Delivery, Me, Notifications};
use mothball_domain::notice::delivery::DeliveryState;
use mothball_domain::notice::preferences::Language;

/// Messages that are listed unless more are asked for.
const MESSAGES: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct NotifyArgs {
    #[command(subcommand)]
    command: Option<NotifyCommand>,
    /// Somebody else (their admins and operators).
    #[arg(long, global = true)]
    user: Option<String>,
}

#[derive(Debug, Subcommand)]
enum NotifyCommand {
    /// Shows what you are told of.
    Show,
    /// Sets what you are told of; what is not given stays.
    Set(SetArgs),
    /// Ends all messages to you.
    Off,
    /// Lists the messages that you were sent, newest first.
    Sent {
        /// How many.
        #[arg(long, default_value_t = MESSAGES)]
        limit: usize,
    },
}

#[derive(Debug, Args)]
struct SetArgs {
    /// Where to, as in ann@example.org.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// In which language: en or zh-TW.
    #[arg(long, value_name = "LANGUAGE")]
    language: Option<Language>,
    /// What of, as in container.warned; may be given several times.
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<String>,
}

pub(crate) async fn run(args: NotifyArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let user = match args.user {
        Some(user) => user,
        None => client.get::<Me>(&["me"], &[]).await?.user,
    };
    let path = ["users", user.as_str(), "notifications"];
    let found: Notifications = client.get(&path, &[]).await?;
    match args.command.unwrap_or(NotifyCommand::Show) {
        NotifyCommand::Show => cx.show(&found, text),
        NotifyCommand::Set(asked) => {
            let events =
                if asked.events.is_empty() { found.events } else { asked.events.into_iter().collect() };
            let wishes = Notifications {
                email: asked.email.or(found.email),
                language: asked.language.unwrap_or(found.language),
                events,
            };
            let set: Notifications = client.put(&path, &wishes).await?;
            cx.show(&set, text)
        }
        NotifyCommand::Off => {
            let set: Notifications = client.put(&path, &Notifications { email: None, ..found }).await?;
            cx.show(&set, text)
        }
        NotifyCommand::Sent { limit } => {
            let path = ["users", user.as_str(), "notifications", "deliveries"];
            let sent: Vec<Delivery> = client.list(&path, &[], limit).await?;
            cx.show(&sent, |all| deliveries_table(all))
        }
    }
}

fn text(n: &Notifications) -> String {
    let Some(email) = &n.email else {
        return "You are told of nothing by e-mail. To change that: mothball notify set --email ADDRESS"
            .to_owned();
    };
    output::facts(&[
        ("to", email.clone()),
        ("language", n.language.to_string()),
        ("told of", n.events.iter().cloned().collect::<Vec<_>>().join(", ")),
    ])
}

/// What was sent, to a webhook or to a person.
pub(super) fn deliveries_table(all: &[Delivery]) -> String {
    output::table(&["id", "happened", "event", "is", "tries", "last result"], all.iter().map(row))
}

fn row(d: &Delivery) -> Vec<String> {
    let state = match (d.state, d.next_at) {
        (DeliveryState::Pending, Some(at)) if !d.tries.is_empty() => format!("again at {}", local(at)),
        (state, _) => state.as_str().to_owned(),
    };
    vec![
        d.id.to_string(),
        local(d.happened_at),
        d.event.to_string(),
        state,
        d.tries.len().to_string(),
        d.tries.last().map(|t| t.result.clone()).unwrap_or_default(),
    ]
}
