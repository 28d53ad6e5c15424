//! What is written to people, in their language.

mod chinese;
mod english;

use super::preferences::Language;
use super::{KeepToken, Notice};
use rust_decimal::{Decimal, RoundingStrategy};

/// A message to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
}

/// What a message needs besides the notice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setting {
    /// What amounts are in.
    pub currency: String,
    /// Where people reach Mothball, without a slash at the end; none where the operator has not said it.
    pub public_url: Option<String>,
}

impl Setting {
    /// The link that keeps a container.
    pub fn keep_url(&self, token: &KeepToken) -> Option<String> {
        self.public_url.as_ref().map(|url| format!("{url}/keep/{}", token.expose()))
    }
}

/// The message that tells `notice`.
pub fn message(notice: &Notice, language: Language, setting: &Setting) -> Message {
    match language {
        Language::English => english::message(notice, setting),
        Language::Chinese => chinese::message(notice, setting),
    }
}

/// An amount as people read it: two places, half away from zero as bills round.
fn money(amount: Decimal, setting: &Setting) -> String {
    let rounded = amount.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
    format!("{rounded:.2} {}", setting.currency)
}

/// Small amounts keep the places that tell them from nothing.
fn fine_money(amount: Decimal, setting: &Setting) -> String {
    let rounded = amount.round_dp_with_strategy(4, RoundingStrategy::MidpointAwayFromZero).normalize();
    format!("{rounded} {}", setting.currency)
}

/// A moment, to the minute, in UTC: whose zone the reader is in is not known.
fn moment(at: jiff::Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, FailureClass};
    use crate::id::{ContainerId, JobId, NoticeId};
    use crate::job::JobKind;
    use crate::notice::{News, Subject};
    use crate::policy::Reason;
    use crate::retention;
    use jiff::Timestamp;
    use uuid::Uuid;

    fn told(news: News) -> Notice {
        Notice {
            id: NoticeId(Uuid::nil()),
            at: Timestamp::UNIX_EPOCH,
            project: "vision".parse().unwrap(),
            user: Some("ann".parse().unwrap()),
            news,
        }
    }

    fn subject() -> Subject {
        Subject { id: ContainerId(7), name: "box".parse().unwrap() }
    }

    fn every() -> Vec<News> {
        let job = JobId(Uuid::nil());
        let park_at = Timestamp::from_second(1_800_000_000).unwrap();
        let token = Some(KeepToken::of([1; 32]));
        let warned = |reason, protected, keep| News::Warned {
            container: subject(),
            reason,
            park_at,
            protected,
            per_hour: Decimal::from(58),
            keep,
        };
        let failure = Failure::permanent(FailureClass::Quota, "the project's quota is used up");
        let ended = |kind, error| News::Job {
            job,
            kind,
            container: Some(subject()),
            image: Some("torch:v1".into()),
            error,
        };
        let mut all: Vec<News> = JobKind::ALL.into_iter().map(|kind| ended(kind, None)).collect();
        all.extend([
            ended(JobKind::Snapshot, Some(failure)),
            warned(Reason::Idle, false, token.clone()),
            warned(Reason::Lifetime, false, token.clone()),
            warned(Reason::Budget, false, token),
            warned(Reason::Idle, true, None),
            News::Parking { container: subject(), reason: Reason::Idle, job },
            News::Parked {
                container: subject(),
                image: "torch:park-20270115-080000".parse().unwrap(),
                job,
                per_hour: Decimal::from(58),
                storage_per_hour: "0.0273972603".parse().unwrap(),
                cost: "671.9972".parse().unwrap(),
            },
            News::Woken {
                container: subject(),
                flavor: "c.super".parse().unwrap(),
                per_hour: Decimal::from(58),
                job,
            },
            News::Budget { mark: 80, spent: Decimal::from(805), budget: Decimal::from(1000) },
            News::Budget { mark: 100, spent: Decimal::from(1001), budget: Decimal::from(1000) },
            News::ImageExpiring {
                image: "torch:old".parse().unwrap(),
                remove_at: park_at,
                reason: retention::Reason::Unused,
                size_bytes: 12_000_000_000,
            },
            News::Ping,
        ]);
        all
    }

    #[test]
    fn every_news_has_words_in_both_languages_that_end_and_name_what_they_are_about() {
        let setting = Setting { currency: "TWD".into(), public_url: Some("https://mothball.example".into()) };
        for news in every() {
            for language in [Language::English, Language::Chinese] {
                let message = message(&told(news.clone()), language, &setting);
                let all = format!("{}\n{}", message.subject, message.body);
                assert!(!message.subject.contains('\n') && message.body.ends_with('\n'), "{all}");
                assert!(!all.contains('{') && !all.contains("None") && !all.contains("Some("), "{all}");
                assert!(all.contains("vision"), "the project is named: {all}");
                match &news {
                    News::Budget { .. } | News::ImageExpiring { .. } | News::Ping => {}
                    News::Job {
                        kind: JobKind::DeleteImage | JobKind::RestoreImage | JobKind::PurgeImage,
                        ..
                    } => {
                        assert!(all.contains("torch:v1"), "{all}");
                    }
                    _ => assert!(message.subject.contains("box"), "the container is named: {all}"),
                }
            }
        }
    }

    #[test]
    fn a_warning_says_when_what_it_costs_and_how_to_keep_it() {
        let news = every().into_iter().find(|n| matches!(n, News::Warned { .. })).unwrap();
        let link = format!("https://mothball.example/keep/{}", "01".repeat(32));
        let setting = Setting { currency: "TWD".into(), public_url: Some("https://mothball.example".into()) };
        for language in [Language::English, Language::Chinese] {
            let body = message(&told(news.clone()), language, &setting).body;
            assert!(body.contains("2027-01-15 08:00 UTC") && body.contains("58.00 TWD"), "{body}");
            assert!(body.contains(&link) && body.contains("mothball keep box"), "{body}");
            let without = Setting { public_url: None, ..setting.clone() };
            let body = message(&told(news.clone()), language, &without).body;
            assert!(!body.contains("/keep/") && body.contains("mothball keep box"), "{body}");
        }
    }

    #[test]
    fn a_park_says_what_it_saves() {
        let news = every().into_iter().find(|n| matches!(n, News::Parked { .. })).unwrap();
        let setting = Setting { currency: "TWD".into(), public_url: None };
        for language in [Language::English, Language::Chinese] {
            let body = message(&told(news.clone()), language, &setting).body;
            for part in ["672.00 TWD", "58.00 TWD", "0.0274 TWD", "mothball wake box"] {
                assert!(body.contains(part), "{part}: {body}");
            }
        }
    }
}
