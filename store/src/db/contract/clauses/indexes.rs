//! Promises about indexes.

use crate::db::contract::given::{changes, clock_ms, members};
use crate::db::{Db, Order};
use anyhow::{Result, ensure};

/// In the order of their bytes, which is not that of any alphabet.
const SORTED: [&str; 9] = ["", "-", "10", "9", "A", "[a", "a", "é", "容器"];

async fn sorted(db: &Db) -> Result<()> {
    for member in ["é", "9", "容器", "A", "", "a", "10", "[a", "-"] {
        db.commit(changes().add("i", member, 0)).await?;
    }
    // A neighbour by name is another index.
    db.commit(changes().add("i:", "x", 0).add("j", "y", 0)).await?;
    Ok(())
}

pub(in crate::db::contract) async fn scans_go_in_the_order_of_bytes(db: &Db) -> Result<()> {
    sorted(db).await?;
    let up = members(db, "i", Order::Ascending).await?;
    ensure!(up == SORTED, "{up:?}");
    let mut down = members(db, "i", Order::Descending).await?;
    down.reverse();
    ensure!(down == SORTED, "{down:?}");
    ensure!(members(db, "nothing", Order::Ascending).await?.is_empty());
    Ok(())
}

pub(in crate::db::contract) async fn pages_meet_every_member_once(db: &Db) -> Result<()> {
    sorted(db).await?;
    for order in [Order::Ascending, Order::Descending] {
        for limit in [1, 2, 4, 100] {
            let (mut met, mut after) = (Vec::new(), None);
            loop {
                let page = db.scan("i", after.as_deref(), order, limit).await?;
                ensure!(page.len() <= limit);
                let Some(last) = page.last() else { break };
                after = Some(last.clone());
                met.extend(page);
            }
            if order == Order::Descending {
                met.reverse();
            }
            ensure!(met == SORTED, "{order:?} by {limit}: {met:?}");
        }
    }
    Ok(())
}

pub(in crate::db::contract) async fn a_cursor_works_though_its_member_is_gone(db: &Db) -> Result<()> {
    sorted(db).await?;
    db.commit(changes().remove("i", "A")).await?;
    let up = db.scan("i", Some("A"), Order::Ascending, 1).await?;
    let down = db.scan("i", Some("A"), Order::Descending, 1).await?;
    ensure!(
        (up.as_slice(), down.as_slice()) == (&["[a".to_owned()][..], &["9".to_owned()][..]),
        "{up:?} {down:?}"
    );
    Ok(())
}

pub(in crate::db::contract) async fn what_is_due_comes_most_overdue_first(db: &Db) -> Result<()> {
    let now_ms = clock_ms(db, 0).await?;
    let begun = [("b", -5), ("a", -5), ("z", -90_000), ("now", 0), ("later", 60_000), ("long ago", -now_ms)];
    let begun = begun.iter().fold(changes(), |c, (member, ms)| c.add("due", member, now_ms + ms));
    db.commit(begun).await?;
    let due = db.due("due", 10).await?;
    ensure!(due == ["long ago", "z", "a", "b", "now"], "{due:?}");
    ensure!(db.due("due", 2).await? == ["long ago", "z"]);
    ensure!(db.due("due", usize::MAX).await?.len() == 5);
    ensure!(db.due("nothing", 2).await?.is_empty());
    Ok(())
}

pub(in crate::db::contract) async fn what_is_since_a_score_comes_lowest_first(db: &Db) -> Result<()> {
    // As far as Redis counts exactly.
    let far = 9_000_000_000_000_000;
    let scores = [("b", 7), ("a", 7), ("early", 6), ("open", far), ("z", far - 1), ("below", -1)];
    db.commit(scores.iter().fold(changes(), |c, (member, score)| c.add("i", member, *score))).await?;
    db.commit(changes().add("i:", "neighbour", 8)).await?;
    let since = db.since("i", 7, 10).await?;
    ensure!(since == ["a", "b", "z", "open"], "{since:?}");
    ensure!(db.since("i", 7, 1).await? == ["a"] && db.since("i", far, 9).await? == ["open"]);
    ensure!(db.since("i", far + 1, 9).await?.is_empty() && db.since("nothing", 0, 9).await?.is_empty());
    Ok(())
}

pub(in crate::db::contract) async fn adding_again_moves(db: &Db) -> Result<()> {
    let later_ms = clock_ms(db, 60_000).await?;
    db.commit(changes().add("due", "a", 1)).await?;
    ensure!(db.due("due", 9).await? == ["a"]);
    db.commit(changes().add("due", "a", later_ms)).await?;
    ensure!(db.due("due", 9).await?.is_empty());
    ensure!(db.count(&["due".to_owned()]).await? == [1]);
    Ok(())
}

pub(in crate::db::contract) async fn a_shift_moves_what_is_there_and_adds_nothing(db: &Db) -> Result<()> {
    let later_ms = clock_ms(db, 60_000).await?;
    db.commit(changes().add("due", "a", later_ms)).await?;
    ensure!(db.commit(changes().shift("due", "a", 1).shift("due", "b", 1)).await?);
    let due = db.due("due", 9).await?;
    ensure!(due == ["a"], "{due:?}");
    ensure!(db.count(&["due".to_owned()]).await? == [1]);
    Ok(())
}

pub(in crate::db::contract) async fn removing_what_is_not_there_does_nothing(db: &Db) -> Result<()> {
    ensure!(db.commit(changes().remove("i", "a").delete("b")).await?);
    ensure!(members(db, "i", Order::Ascending).await?.is_empty());
    Ok(())
}

pub(in crate::db::contract) async fn counts_come_in_order(db: &Db) -> Result<()> {
    db.commit(changes().add("two", "a", 0).add("two", "b", 5).add("one", "a", 0)).await?;
    let counts = db.count(&["two", "none", "one"].map(str::to_owned)).await?;
    ensure!(counts == [2, 0, 1], "{counts:?}");
    ensure!(db.count(&[]).await?.is_empty());
    Ok(())
}
