//! What a run of a schedule does to one container: a job, or a reason why there is none.

use super::{Plan, ScheduleAction};
use crate::container::{Container, ContainerState};
use crate::exclude::Exclude;
use crate::image::ImageRef;
use crate::job::{JobSpec, PauseMode, Then};
use crate::name::Tag;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What is done to a container that no other job is busy with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This job is started.
    Start(JobSpec),
    /// It is already as it should be; a sentence.
    Nothing(String),
    /// Its owner keeps schedules away from it; a sentence.
    LeftAlone(String),
    /// It cannot be done as the container stands; a sentence.
    Impossible(String),
}

/// Decides for one container, at `now`, for the run planned for `planned_at`. `excludes` are what the project's saves leave out.
pub fn decide(
    plan: &Plan,
    container: &Container,
    excludes: &[Exclude],
    planned_at: Timestamp,
    now: Timestamp,
) -> Decision {
    use ContainerState as S;
    use ScheduleAction as A;
    if let Some(until) = container.keep_until.filter(|until| *until > now) {
        return Decision::LeftAlone(format!("it is kept as it is until {until}"));
    }
    let start = |spec| {
        if container.protected && plan.action.removes() {
            return Decision::LeftAlone("it is protected from deletion".to_owned());
        }
        Decision::Start(spec)
    };
    let state = container.state;
    match (plan.action, state) {
        (A::Save, S::Ready | S::Stopped) => start(save(plan, container, excludes, planned_at, Then::Keep)),
        (A::Save, S::Parked) => Decision::Nothing("it is parked, and so saved".to_owned()),
        (A::Park, S::Ready | S::Stopped) => start(save(plan, container, excludes, planned_at, Then::Park)),
        (A::Park, S::Parked) => Decision::Nothing("it is parked already".to_owned()),
        (A::Wake, S::Parked) => start(JobSpec::Launch),
        (A::Wake, S::Ready) => Decision::Nothing("it runs already".to_owned()),
        (A::Wake, S::Stopped) => Decision::Impossible("it is stopped, not parked: start it".to_owned()),
        (A::Delete, S::Ready | S::Stopped | S::Parked | S::Error | S::Lost) => start(JobSpec::Delete),
        (A::Delete, S::Deleted) => Decision::Nothing("it is deleted already".to_owned()),
        _ => Decision::Impossible(format!("it is {state}")),
    }
}

fn save(
    plan: &Plan,
    container: &Container,
    excludes: &[Exclude],
    planned_at: Timestamp,
    then: Then,
) -> JobSpec {
    let tag = plan.tag.clone().unwrap_or_else(|| default_tag(plan.action, container, planned_at));
    JobSpec::Snapshot {
        image: ImageRef { name: container.image_name.clone(), tag },
        then,
        pause: PauseMode::Auto,
        discard_volumes: plan.discard_volumes && then.removes(),
        excludes: excludes.to_vec(),
    }
}

/// `park-YYYYMMDD-HHMMSS-NAME` or `save-…`, of the planned time in UTC: the same however often it is asked for, and never that
/// of another container that has the same base and is due in the same moment.
fn default_tag(action: ScheduleAction, container: &Container, planned_at: Timestamp) -> Tag {
    let stamp = planned_at.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M%S");
    let tag = Tag::new(format!("{action}-{stamp}-{}", container.name));
    tag.unwrap_or_else(|_| unreachable!("letters, digits and dashes are a tag"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, container, schedule};
    use super::*;

    #[test]
    fn what_is_done_in_each_state() {
        let mut plan = schedule("0 20 * * *", "UTC", "2026-01-01T00:00:00Z").plan;
        let (planned_at, now) = (at("2026-01-01T20:00:00Z"), at("2026-01-01T20:00:01Z"));
        // s: a job is started; n: nothing to do; i: impossible. In the order of the states.
        for (action, expected) in [
            (ScheduleAction::Save, "issiinii"),
            (ScheduleAction::Park, "issiinii"),
            (ScheduleAction::Wake, "iniiisii"),
            (ScheduleAction::Delete, "issinsss"),
        ] {
            plan.action = action;
            for (state, expected) in ContainerState::ALL.into_iter().zip(expected.chars()) {
                let mut container = container();
                container.state = state;
                let decided = match decide(&plan, &container, &[], planned_at, now) {
                    Decision::Start(_) => 's',
                    Decision::Nothing(_) => 'n',
                    Decision::LeftAlone(_) => 'l',
                    Decision::Impossible(_) => 'i',
                };
                assert_eq!(decided, expected, "{action} of one that is {state}");
            }
        }
    }

    #[test]
    fn what_is_protected_or_kept_is_left_alone() {
        let mut plan = schedule("0 20 * * *", "UTC", "2026-01-01T00:00:00Z").plan;
        let (planned_at, now) = (at("2026-01-01T20:00:00Z"), at("2026-01-01T20:00:01Z"));
        let mut c = container();
        c.protected = true;
        for action in ScheduleAction::ALL {
            plan.action = action;
            let alone = matches!(decide(&plan, &c, &[], planned_at, now), Decision::LeftAlone(_));
            assert_eq!(alone, action.removes(), "{action}");
        }
        (c.protected, c.keep_until) = (false, Some(at("2026-01-02T00:00:00Z")));
        for action in ScheduleAction::ALL {
            plan.action = action;
            assert!(
                matches!(decide(&plan, &c, &[], planned_at, now), Decision::LeftAlone(why) if why.contains("2026-01-02"))
            );
            assert!(!matches!(
                decide(&plan, &c, &[], planned_at, at("2026-01-02T00:00:00Z")),
                Decision::LeftAlone(_)
            ));
        }
    }

    #[test]
    fn a_tag_is_the_planned_times_unless_there_is_one() {
        let mut plan = schedule("0 20 * * *", "UTC", "2026-01-01T00:00:00Z").plan;
        let image = |plan: &Plan| match decide(
            plan,
            &container(),
            &[],
            at("2026-02-03T04:05:06Z"),
            at("2026-02-03T05:00:00Z"),
        ) {
            Decision::Start(spec) => spec.image().map(ToString::to_string).unwrap_or_default(),
            other => panic!("{other:?}"),
        };
        assert_eq!(image(&plan), "base:park-20260203-040506-box");
        plan.action = ScheduleAction::Save;
        assert_eq!(image(&plan), "base:save-20260203-040506-box");
        plan.tag = Some("nightly".parse().unwrap());
        assert_eq!(image(&plan), "base:nightly");
    }
}
