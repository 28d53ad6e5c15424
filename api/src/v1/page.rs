//! Pages of lists.

use super::views::{List, Problem};
use crate::app::App;
use serde::Deserialize;
use std::str::FromStr;
use utoipa::IntoParams;

/// Where a page begins and how long it is.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many items at most; 50 when absent, 200 at most.
    limit: Option<String>,
}

impl PageQuery {
    /// The limit, within its bounds.
    pub(crate) fn limit(&self, app: &App) -> Result<usize, Problem> {
        let limits = app.parts.settings.limits;
        let Some(text) = &self.limit else { return Ok(limits.page_default) };
        let bad =
            || Problem::invalid("limit", format_args!("limit is a number from 1 to {}", limits.page_max));
        let asked: usize = text.parse().map_err(|_| bad())?;
        if (1..=limits.page_max).contains(&asked) { Ok(asked) } else { Err(bad()) }
    }

    /// The cursor, which must be one that a list of this kind gives out.
    pub(crate) fn cursor<T: FromStr>(&self) -> Result<Option<T>, Problem> {
        let parsed = self.cursor.as_deref().filter(|c| !c.is_empty()).map(T::from_str).transpose();
        parsed.map_err(|_| Problem::invalid("cursor", "cursor is the next_cursor of a page of this list"))
    }
}

/// An optional query parameter of a closed set, or a name.
pub(crate) fn chosen<T: FromStr>(field: &str, text: Option<&str>) -> Result<Option<T>, Problem>
where
    T::Err: std::fmt::Display,
{
    let parsed = text.filter(|t| !t.is_empty()).map(T::from_str).transpose();
    parsed.map_err(|why| Problem::invalid(field, why))
}

/// A page of a list that is short enough to be read whole, sorted by what `cursor_of` says.
pub(crate) fn paged<T>(
    items: impl IntoIterator<Item = T>,
    cursor_of: impl Fn(&T) -> String,
    after: Option<&str>,
    limit: usize,
) -> List<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort_by_key(&cursor_of);
    items.retain(|item| after.is_none_or(|after| cursor_of(item).as_str() > after));
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| more).map(cursor_of);
    List { items, next_cursor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_short_list_hold_each_item_once() {
        let all = ["c", "a", "d", "b"];
        let mut seen = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = paged(all, ToString::to_string, after.as_deref(), 3);
            seen.extend(page.items);
            match page.next_cursor {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, ["a", "b", "c", "d"]);
    }
}
