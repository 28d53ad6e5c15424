//! Mail to people, through the operator's own mail server.

use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use mothball_domain::id::DeliveryId;
use mothball_domain::notice::delivery::Ended;
use mothball_domain::notice::preferences::{EmailAddress, Language};
use mothball_domain::notice::words;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

/// How the mail server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// Begins in plain text and must change to TLS (port 587).
    Starttls,
    /// TLS from the first byte (port 465).
    Tls,
    /// No TLS: a server on the same machine.
    None,
}

/// The operator's mail server.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub tls: SmtpTls,
    /// As whom, and the file in which the password stands alone; read anew for each message.
    pub login: Option<(String, PathBuf)>,
    /// Whom messages come from, as in "Mothball <mothball@example.org>".
    pub from: String,
    /// The longest that one step of a message may take.
    pub timeout: Duration,
}

/// Why mail cannot be sent. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The sender is no address.
    #[error("notifications.smtp.from is no mail address: {0}")]
    From(String),
    /// The password cannot be read.
    #[error("the mail server's password cannot be read from {path}: {error}")]
    Password {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS with the mail server cannot be set up: {0}")]
    Tls(String),
    /// The server refused, or could not be reached.
    #[error("{0}")]
    Server(String),
}

/// Sends mail.
#[derive(Debug)]
pub struct Mailer {
    settings: SmtpSettings,
    from: Mailbox,
}

impl Mailer {
    /// Makes one; the server is reached when there is something to send.
    pub fn new(settings: SmtpSettings) -> Result<Self, MailError> {
        let from = settings.from.parse::<Mailbox>().map_err(|e| MailError::From(e.to_string()))?;
        Ok(Self { settings, from })
    }

    /// Whether the server can be reached and takes the sign-in.
    pub async fn check(&self) -> Result<(), MailError> {
        let answered = self.transport().await?.test_connection().await;
        match answered {
            Ok(true) => Ok(()),
            Ok(false) => Err(MailError::Server("the mail server hung up".to_owned())),
            Err(error) => Err(MailError::Server(said(&error))),
        }
    }

    /// Sends a message. Its id is the delivery's, so that a mail program shows one that arrives twice once.
    pub(super) async fn send(
        &self,
        id: DeliveryId,
        to: &EmailAddress,
        language: Language,
        words: &words::Message,
    ) -> Ended {
        let transport = match self.transport().await {
            Ok(transport) => transport,
            // The operator may mend the file.
            Err(error) => return Ended::Again(error.to_string()),
        };
        let message = match self.message(id, to, language, words) {
            Ok(message) => message,
            Err(why) => return Ended::Never(why),
        };
        match transport.send(message).await {
            Ok(response) => Ended::Arrived(response.code().to_string()),
            Err(error) if error.is_permanent() => Ended::Never(said(&error)),
            Err(error) => Ended::Again(said(&error)),
        }
    }

    fn message(
        &self,
        id: DeliveryId,
        to: &EmailAddress,
        language: Language,
        words: &words::Message,
    ) -> Result<Message, String> {
        let to = to.as_str().parse::<Mailbox>().map_err(|e| format!("the address cannot be used: {e}"))?;
        let domain = self.from.email.domain();
        let builder: MessageBuilder = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(words.subject.clone())
            .message_id(Some(format!("<{id}@{domain}>")))
            .header(ContentLanguage(language))
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        builder.body(words.body.clone()).map_err(|e| format!("the message cannot be written: {e}"))
    }

    /// A connection of its own for each message: they are rare, and the password may have changed.
    async fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailError> {
        let s = &self.settings;
        let tls = |of: fn(TlsParameters) -> Tls| {
            TlsParameters::new(s.host.clone()).map(of).map_err(|e| MailError::Tls(e.to_string()))
        };
        let tls = match s.tls {
            SmtpTls::Starttls => tls(Tls::Required)?,
            SmtpTls::Tls => tls(Tls::Wrapper)?,
            SmtpTls::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&s.host)
            .port(s.port)
            .tls(tls)
            .timeout(Some(s.timeout));
        if let Some((username, path)) = &s.login {
            let password = tokio::fs::read_to_string(path).await;
            let password = password.map_err(|error| MailError::Password { path: path.clone(), error })?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            builder = builder.credentials(Credentials::new(username.clone(), password));
        }
        Ok(builder.build())
    }
}

/// What the server said, or what went wrong on the way to it.
fn said(error: &lettre::transport::smtp::Error) -> String {
    let mut words = error.to_string();
    if let Some(source) = error.source() {
        let source = source.to_string();
        if !words.contains(&source) {
            words = format!("{words}: {source}");
        }
    }
    words
}

/// RFC 3834: no holiday message answers.
#[derive(Debug, Clone, Copy)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// RFC 3282.
#[derive(Debug, Clone, Copy)]
struct ContentLanguage(Language);

impl Header for ContentLanguage {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Content-Language")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self(text.parse()?))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.as_str().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_chinese_is_one_that_mail_programs_can_read() {
        let settings = SmtpSettings {
            host: "mail.example".into(),
            port: 25,
            tls: SmtpTls::None,
            login: None,
            from: "Mothball <mothball@example.org>".into(),
            timeout: Duration::from_secs(1),
        };
        let mailer = Mailer::new(settings.clone()).unwrap();
        let words = words::Message {
            subject: "容器 box 將於明日封存".into(), body: "您的容器。\n".into()
        };
        let id = DeliveryId(uuid::Uuid::nil());
        let to = "ann@example.org".parse().unwrap();
        let message = mailer.message(id, &to, Language::Chinese, &words).unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        for line in [
            "From: Mothball <mothball@example.org>",
            "To: ann@example.org",
            "Subject: =?utf-8?b?",
            "Message-ID: <00000000-0000-0000-0000-000000000000@example.org>",
            "Content-Language: zh-TW",
            "Auto-Submitted: auto-generated",
            "Content-Type: text/plain; charset=utf-8",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let wrong = SmtpSettings { from: "nobody".into(), ..settings };
        assert!(matches!(Mailer::new(wrong), Err(MailError::From(_))));
    }
}
