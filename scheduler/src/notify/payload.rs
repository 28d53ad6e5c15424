//! What programs are sent: type, time and data, as the Standard Webhooks specification recommends. The fields are part of
//! the API: added freely, never renamed. Amounts are decimals as text; nothing here is a secret but `keep_url`.

use mothball_domain::notice::words::Setting;
use mothball_domain::notice::{News, Notice, Subject};
use serde_json::{Map, Value, json};

/// The body that tells `notice`.
pub(super) fn of(notice: &Notice, setting: &Setting) -> Vec<u8> {
    let mut data = match data(&notice.news, setting) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    data.insert("project".to_owned(), json!(notice.project));
    data.insert("user".to_owned(), json!(notice.user));
    let body =
        json!({ "type": notice.news.event().as_str(), "timestamp": notice.at.to_string(), "data": data });
    body.to_string().into_bytes()
}

fn data(news: &News, setting: &Setting) -> Value {
    let currency = &setting.currency;
    match news {
        News::Job { job, kind, container, image, error } => json!({
            "job": job,
            "kind": kind,
            "container": container.as_ref().map(subject),
            "image": image,
            "error": error.as_ref().map(|e| json!({ "class": e.class, "message": e.message, "hint": e.hint })),
        }),
        News::Warned { container, reason, park_at, protected, per_hour, keep } => json!({
            "container": subject(container),
            "reason": reason,
            "park_at": (!protected).then(|| park_at.to_string()),
            "protected": protected,
            "per_hour": per_hour.to_string(),
            "currency": currency,
            "keep_url": keep.as_ref().and_then(|token| setting.keep_url(token)),
        }),
        News::Parking { container, reason, job } => {
            json!({ "container": subject(container), "reason": reason, "job": job })
        }
        News::Parked { container, image, job, per_hour, storage_per_hour, cost } => json!({
            "container": subject(container),
            "image": image,
            "job": job,
            "per_hour": per_hour.to_string(),
            "storage_per_hour": storage_per_hour.to_string(),
            "cost": cost.to_string(),
            "currency": currency,
        }),
        News::Woken { container, flavor, per_hour, job } => json!({
            "container": subject(container),
            "flavor": flavor,
            "per_hour": per_hour.to_string(),
            "currency": currency,
            "job": job,
        }),
        News::Budget { mark, spent, budget } => json!({
            "mark_percent": mark,
            "spent": spent.to_string(),
            "budget": budget.to_string(),
            "currency": currency,
        }),
        News::ImageExpiring { image, remove_at, reason, size_bytes } => json!({
            "image": image,
            "remove_at": remove_at.to_string(),
            "reason": reason,
            "size_bytes": size_bytes,
        }),
        News::Ping => json!({}),
    }
}

fn subject(container: &Subject) -> Value {
    json!({ "id": container.id, "name": container.name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothball_domain::id::{ContainerId, NoticeId};
    use mothball_domain::notice::KeepToken;
    use mothball_domain::policy::Reason;
    use rust_decimal::Decimal;
    use uuid::Uuid;

    fn told(news: News) -> Value {
        let notice = Notice {
            id: NoticeId(Uuid::nil()),
            at: jiff::Timestamp::UNIX_EPOCH,
            project: "vision".parse().unwrap(),
            user: Some("ann".parse().unwrap()),
            news,
        };
        let setting = Setting { currency: "TWD".into(), public_url: Some("https://mothball.example".into()) };
        serde_json::from_slice(&of(&notice, &setting)).unwrap()
    }

    #[test]
    fn a_warning_is_told_with_its_link_and_amounts_as_text() {
        let body = told(News::Warned {
            container: Subject { id: ContainerId(7), name: "box".parse().unwrap() },
            reason: Reason::Idle,
            park_at: jiff::Timestamp::from_second(60).unwrap(),
            protected: false,
            per_hour: Decimal::from(58),
            keep: Some(KeepToken::of([1; 32])),
        });
        let link = format!("https://mothball.example/keep/{}", "01".repeat(32));
        let data = json!({
            "container": { "id": 7, "name": "box" }, "reason": "idle", "park_at": "1970-01-01T00:01:00Z",
            "protected": false, "per_hour": "58", "currency": "TWD", "keep_url": link,
            "project": "vision", "user": "ann",
        });
        let whole = json!({ "type": "container.warned", "timestamp": "1970-01-01T00:00:00Z", "data": data });
        assert_eq!(body, whole);
    }

    #[test]
    fn a_test_names_its_project() {
        let body = told(News::Ping);
        assert_eq!(body["type"], "webhook.ping");
        assert_eq!(body["data"]["project"], "vision");
    }
}
