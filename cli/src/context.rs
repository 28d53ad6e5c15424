//! What every command has: the global flags and the environment, read once.

use crate::client::{Client, Login, default_url};
use crate::exit::{Code, Fail};
use crate::output::{self, Format};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use secrecy::SecretString;
use serde::Serialize;
use std::io::{BufRead, IsTerminal, Write};

/// Flags that stand before or after any command.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Global {
    /// How results are printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(crate) output: Format,
    /// The project, where you have several.
    #[arg(long, global = true, env = "MOTHBALL_PROJECT", hide_env_values = true)]
    pub(crate) project: Option<String>,
    /// Answers every question with yes.
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// The server's address.
    #[arg(long, global = true, env = "MOTHBALL_URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
}

/// What a command is run with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) environment: Vec<(String, String)>,
}

impl Context {
    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The saved logins.
    pub(crate) fn login(&self) -> Result<Login, Fail> {
        Login::read(self.variable("XDG_CONFIG_HOME"), self.variable("HOME"))
    }

    /// The saved logins, to be written anew.
    pub(crate) fn login_or_begin(&self) -> Login {
        Login::read_or_begin(self.variable("XDG_CONFIG_HOME"), self.variable("HOME"))
    }

    /// The server's address: flag, environment, saved login, this machine.
    pub(crate) fn url(&self, login: &Login) -> String {
        let named = self.global.url.as_deref().filter(|url| !url.is_empty());
        named.or(login.url()).unwrap_or(default_url()).to_owned()
    }

    /// The server, as who is signed in.
    pub(crate) fn client(&self) -> Result<Client, Fail> {
        if let Some(key) = self.variable("MOTHBALL_API_KEY") {
            // With both given, a broken saved login is nobody's concern.
            let login = self.login_or_begin();
            return self.client_with(&self.url(&login), key.into());
        }
        let login = self.login()?;
        let url = self.url(&login);
        let key = login.key(&url).ok_or_else(|| {
            Fail::new(Code::NotAllowed, format!("not signed in to {url}"))
                .hint("set MOTHBALL_API_KEY, or sign in with `mothball login`")
        })?;
        self.client_with(&url, key)
    }

    /// A server, with a key that is not saved.
    pub(crate) fn client_with(&self, url: &str, key: SecretString) -> Result<Client, Fail> {
        let project = self.global.project.clone().filter(|p| !p.is_empty());
        Client::new(url, key, project)
    }

    /// Whether programs read the output.
    pub(crate) fn is_json(&self) -> bool {
        self.global.output == Format::Json
    }

    /// Prints a thing: as JSON, or in the words that `text` makes of it.
    pub(crate) fn show<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Fail> {
        if self.is_json() {
            return output::json(value);
        }
        output::say(text(value));
        Ok(())
    }

    /// Asks on a terminal whether to go on. Elsewhere nobody could answer, and the command itself is the answer.
    pub(crate) fn confirm(&self, question: &str) -> Result<(), Fail> {
        if self.global.yes || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Ok(());
        }
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
        let mut answer = String::new();
        let _ = std::io::stdin().lock().read_line(&mut answer);
        if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        Err(Fail::failed("nothing was done"))
    }
}

/// The time by this machine's clock, for words like "3 min ago".
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// A time in the reader's own zone.
pub(crate) fn local(at: Timestamp) -> String {
    output::human::local(at, &TimeZone::system())
}

/// How long ago.
pub(crate) fn ago(at: Timestamp) -> String {
    output::human::relative(at, now())
}
