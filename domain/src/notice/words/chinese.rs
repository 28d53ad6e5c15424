//! Traditional Chinese, in TWCC's own terms: 容器, 映像檔, 計畫.

use super::{Message, Setting, fine_money, moment, money};
use crate::job::JobKind;
use crate::notice::{KeepToken, News, Notice, Subject};
use crate::policy::Reason;
use crate::retention;
use crate::size::ByteSize;

pub(super) fn message(notice: &Notice, setting: &Setting) -> Message {
    let project = &notice.project;
    let (subject, text) = match &notice.news {
        News::Job { kind, container, image, error, job } => {
            let what = job_of(*kind, container.as_ref(), image.as_deref());
            match error {
                None => (format!("已完成：{what}"), format!("{what}已完成。\n\n工作編號：{job}")),
                Some(error) => (
                    format!("失敗：{what}"),
                    format!(
                        "{what}失敗：{}\n\n建議：{}\n工作編號：{job}（mothball jobs show {job}）",
                        error.message, error.hint
                    ),
                ),
            }
        }
        News::Warned { container, reason, protected: true, per_hour, .. } => (
            format!("容器 {} {}，但受保護，仍持續計費", container.name, because(*reason)),
            format!(
                "您的容器 {} {}。本應封存，但因受保護而保留，每小時費用 {}。\n\n若不需要保護：mothball protect {} off",
                container.name,
                because(*reason),
                money(*per_hour, setting),
                container.name
            ),
        ),
        News::Warned { container, reason, park_at, per_hour, keep, .. } => (
            format!("容器 {} 將於 {} 封存", container.name, moment(*park_at)),
            format!(
                "您的容器 {} {}，每小時費用 {}。將於 {} 封存：先存成映像檔並驗證無誤，再刪除容器。容器本身的檔案不會遺失，\
                 之後可用 mothball wake {} 還原。\n\n{}",
                container.name,
                because(*reason),
                money(*per_hour, setting),
                moment(*park_at),
                container.name,
                how_to_keep(container, keep.as_ref(), setting)
            ),
        ),
        News::Parking { container, reason, job } => (
            format!("容器 {} 正在封存", container.name),
            format!(
                "您的容器 {} {}，且寬限時間已過，現正儲存並刪除。\n\n若要中止：mothball jobs cancel {job}",
                container.name,
                because(*reason)
            ),
        ),
        News::Parked { container, image, per_hour, storage_per_hour, cost, .. } => (
            format!(
                "容器 {} 已封存，每小時節省 {}",
                container.name,
                money(per_hour - storage_per_hour, setting)
            ),
            format!(
                "您的容器 {} 已存成映像檔 {image}，經驗證無誤，容器已刪除。\n\n\
                 原本每小時費用 {}，至今累計 {}。保存映像檔每小時費用 {}。\n\n還原：mothball wake {}",
                container.name,
                money(*per_hour, setting),
                money(*cost, setting),
                fine_money(*storage_per_hour, setting),
                container.name
            ),
        ),
        News::Woken { container, flavor, per_hour, .. } => (
            format!("容器 {} 已重新執行", container.name),
            format!(
                "您的容器 {} 已以 {flavor} 規格還原，現在起每小時費用 {}。\n\n連線資訊：mothball containers show {}",
                container.name,
                money(*per_hour, setting),
                container.name
            ),
        ),
        News::Budget { mark, spent, budget } => (
            format!("計畫 {project} 已使用預算的 {mark}%"),
            format!(
                "計畫 {project} 本月已花費 {}，預算為 {}。{}",
                money(*spent, setting),
                money(*budget, setting),
                if *mark >= 100 {
                    "其容器將陸續收到通知並封存；受保護或已要求保留者除外。"
                } else {
                    "達到 100% 時，其容器將收到通知並封存。"
                }
            ),
        ),
        News::ImageExpiring { image, remove_at, reason, size_bytes } => (
            format!("映像檔 {image} 將於 {} 移除", moment(*remove_at)),
            format!(
                "映像檔 {image}（{}）將於 {} 移除，原因：{}。\n\n若要保留：mothball images pin {image}",
                ByteSize(*size_bytes),
                moment(*remove_at),
                going(*reason)
            ),
        ),
        News::Ping => (format!("計畫 {project} 的測試訊息"), "這是一則測試訊息。".to_owned()),
    };
    Message { subject, body: format!("{text}\n\n計畫：{project}\n") }
}

fn how_to_keep(container: &Subject, keep: Option<&KeepToken>, setting: &Setting) -> String {
    let command = format!("mothball keep {} --until TIME", container.name);
    match keep.and_then(|token| setting.keep_url(token)) {
        Some(url) => format!("若要保留執行，請開啟：{url}\n或使用指令：{command}"),
        None => format!("若要保留執行：{command}"),
    }
}

fn going(reason: retention::Reason) -> &'static str {
    match reason {
        retention::Reason::NotAmongLast => "同名的較新映像檔已足夠",
        retention::Reason::Unused => "已長時間未使用",
        retention::Reason::NotAmongLastAndUnused => "同名的較新映像檔已足夠，且已長時間未使用",
    }
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Budget => "所屬計畫本月預算已用完",
        Reason::Lifetime => "已達計畫允許的最長執行時間",
        Reason::Idle => "處於閒置狀態",
    }
}

fn job_of(kind: JobKind, container: Option<&Subject>, image: Option<&str>) -> String {
    let container = container.map(|c| format!("容器 {}", c.name)).unwrap_or_default();
    let image = image.map(|image| format!("映像檔 {image}")).unwrap_or_default();
    match kind {
        JobKind::Snapshot => format!("將{container} 儲存為{image} "),
        JobKind::Delete => format!("刪除{container} "),
        JobKind::Launch => format!("以{image} 建立{container} "),
        JobKind::RestoreImage => format!("還原{image} "),
        JobKind::PurgeImage => format!("將{image} 自儲存庫永久移除"),
        JobKind::DeleteImage => format!("刪除{image} "),
        JobKind::Start => format!("啟動{container} "),
        JobKind::Stop => format!("停止{container} "),
    }
    .trim_end()
    .to_owned()
}
