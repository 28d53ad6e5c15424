//! What the store promises, one function per clause, all of them in [`CLAUSES`], each run on both adapters in a
//! world of its own. After each clause every invariant of the store must hold.

mod cancelling;
mod containers;
mod costs;
mod ending;
mod history;
mod holding;
mod images;
mod nodes;
mod people;
mod placing;
mod policing;
mod purging;
mod retaining;
mod retrying;
mod running;
mod scheduling;
mod submitting;
mod surveying;
mod telling;
mod undoing;
mod usage;
mod waiting;
mod waking;

use crate::world::{Ground, World};
use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use std::pin::Pin;
use std::time::Duration;

/// The longest a clause may take.
const CLAUSE_LIMIT: Duration = Duration::from_mins(1);
/// Clauses that run at once: most of their time goes by in waiting.
const AT_ONCE: usize = 8;

struct Clause {
    name: &'static str,
    check: fn(World) -> Checking,
}

type Checking = Pin<Box<dyn Future<Output = Result<()>>>>;

macro_rules! clauses {
    ($($module:ident: $($clause:ident),* ;)*) => {
        &[$($(Clause {
            name: stringify!($clause),
            check: |world| Box::pin(async move { $module::$clause(&world).await }),
        }),*),*]
    };
}

const CLAUSES: &[Clause] = clauses![
    usage:
        the_last_look_is_kept_with_the_stores_time,
        a_policy_is_kept_until_it_does_nothing;
    telling:
        what_happened_is_told_once_to_those_who_want_it,
        who_has_left_or_is_disabled_is_not_told,
        a_delivery_is_one_taker_s_until_it_ends,
        deliveries_are_listed_newest_first_and_go_when_they_are_old,
        a_project_has_so_many_webhooks,
        a_warning_is_told_with_a_link_that_keeps_and_a_park_with_its_job,
        a_park_that_is_refused_waits_a_whole_grace,
        a_warning_goes_with_its_policy,
        each_mark_of_a_budget_is_told_once_a_month;
    submitting:
        a_submission_is_recorded_listed_and_due_at_once,
        the_same_id_is_the_same_job,
        the_same_key_and_body_give_the_same_job_even_when_it_is_over,
        the_same_key_with_another_body_is_refused,
        a_key_belongs_to_its_user,
        a_key_is_forgotten_after_its_time,
        a_key_that_joined_a_job_stays_with_it,
        of_many_repetitions_at_once_one_is_new,
        the_same_request_joins_and_another_is_busy,
        an_image_has_one_unfinished_job_and_a_refused_container_stays_free,
        what_belongs_to_another_project_is_not_there,
        what_a_state_does_not_allow_is_refused_with_a_sentence,
        a_protected_container_is_not_deleted,
        a_name_is_taken_until_its_container_is_gone,
        the_same_launch_under_way_is_joined,
        overwriting_adds_nothing_to_a_quota,
        a_quota_counts_what_is_being_saved,
        two_saves_at_once_do_not_share_the_last_place,
        a_byte_quota_stops_the_next_save,
        numbers_of_containers_never_repeat;
    holding:
        of_64_racers_one_claims,
        a_claim_says_why_not,
        a_job_without_a_node_is_anybodys,
        a_renewal_keeps_the_lease_and_brings_the_cancel,
        a_checkpoint_is_there_for_the_next_attempt,
        a_stale_fence_writes_nothing,
        a_holder_that_nobody_replaced_goes_on_after_its_lease,
        a_lease_that_ended_is_rescued_and_costs_an_attempt,
        a_takeover_costs_an_attempt_and_the_last_one_fails_the_job,
        a_job_that_is_held_is_left_alone,
        an_interruption_costs_no_attempt;
    ending:
        success_ends_a_job_once,
        a_transient_failure_waits_for_its_time,
        a_permanent_failure_ends_the_job,
        the_last_attempt_ends_the_job,
        a_save_that_deletes_ends_the_bill_when_the_container_went,
        a_parked_container_wakes_as_itself,
        a_job_that_fails_after_the_removal_does_not_bill_on,
        a_launch_that_failed_before_it_made_anything_gives_its_place_back,
        a_launch_that_failed_after_it_made_a_container_keeps_its_place,
        a_deletion_that_failed_leaves_the_container,
        a_lost_container_whose_deletion_failed_stays_lost,
        stop_and_start_are_one_bill,
        deleting_an_image_removes_its_record,
        a_launch_marks_its_image_as_used;
    cancelling:
        what_waits_is_cancelled_at_once,
        what_runs_is_told,
        what_is_over_stays_as_it_is,
        a_dead_holders_job_is_cancelled_not_failed,
        a_cancelled_job_is_not_kept_waiting_for_its_retry,
        a_frozen_container_is_thawed_before_its_job_is_cancelled,
        a_frozen_container_on_a_dead_node_does_not_keep_its_job,
        a_cancelled_launch_frees_its_name_and_its_gpus,
        a_cancelled_launch_that_made_a_container_leaves_it_to_be_deleted,
        a_cancelled_wake_stays_parked;
    retrying:
        a_person_gets_all_attempts_anew,
        a_retry_needs_the_container_for_itself,
        a_retry_needs_the_image_for_itself,
        a_retry_of_what_is_gone_or_protected_is_refused_with_the_reason,
        a_launch_takes_its_gpus_anew_or_waits_for_them,
        a_launch_that_made_a_container_goes_on_where_it_is,
        a_retry_of_an_image_deletion_needs_the_same_image,
        a_retry_keeps_to_the_quota;
    waiting:
        unfinished_jobs_and_due_times_are_the_same_through_a_life,
        publications_become_rarer,
        a_publication_that_was_not_noted_is_tried_again_soon,
        a_late_note_of_a_publication_does_not_delay_a_retry,
        a_new_run_of_a_worker_ends_the_leases_of_the_earlier_ones,
        a_deferred_job_is_looked_at_later,
        many_schedulers_at_once_do_no_harm;
    placing:
        all_gpus_or_none,
        what_is_released_is_given_to_who_waits,
        nobody_overtakes_who_waits_for_gpus,
        who_wants_more_than_any_node_has_blocks_nobody,
        a_drained_node_takes_nothing_new,
        what_has_not_begun_on_a_drained_node_goes_elsewhere,
        a_launch_without_a_node_says_so_and_starts_when_one_comes,
        a_launch_whose_node_died_is_placed_anew,
        a_launch_that_died_half_way_is_woken_too,
        what_is_on_a_node_waits_for_it_and_is_given_up_at_last,
        a_silent_node_is_a_dead_one,
        a_wake_waits_without_its_old_place,
        new_gpus_are_given_out,
        a_crowd_never_shares_a_gpu;
    waking:
        a_container_wakes_as_another_size,
        a_wake_as_another_size_that_fails_leaves_it_as_it_was_parked,
        a_wake_joins_only_one_as_the_same_size,
        a_wake_waits_for_the_gpus_of_its_new_size;
    scheduling:
        a_schedule_is_recorded_listed_and_waits_for_its_time,
        a_project_has_so_many_schedules,
        a_schedule_fires_once_and_moves_on,
        of_many_schedulers_one_fires,
        a_scheduler_that_dies_anywhere_leaves_the_rest_to_the_next,
        what_was_missed_is_done_once_or_left_out,
        a_run_is_skipped_or_postponed_once,
        a_change_moves_the_next_run_and_a_pause_ends_it,
        its_history_is_bounded_and_paged;
    running:
        a_run_waits_for_its_turn_and_then_says_why_not,
        a_run_that_waits_ends_with_its_schedule,
        what_is_as_it_should_be_gets_no_job,
        the_same_job_of_the_same_user_is_joined,
        what_is_protected_or_kept_is_left_alone,
        rights_count_when_it_fires,
        containers_are_chosen_when_it_fires,
        a_wake_has_its_size_and_its_price_now,
        no_schedule_takes_a_name_of_the_catalogue;
    policing:
        a_warning_leads_to_one_park,
        a_warning_that_led_to_a_park_does_not_stand,
        only_whom_a_policy_concerns_is_named;
    nodes:
        a_name_belongs_to_one_docker,
        an_earlier_run_has_no_heartbeat,
        a_run_that_stopped_stays_stopped,
        a_node_is_forgotten_when_nothing_is_on_it,
        nodes_are_listed_with_what_they_hold;
    containers:
        what_a_node_sees_is_written_down,
        what_a_node_sees_of_others_or_of_busy_ones_is_not,
        a_lost_container_that_comes_back_is_billed_again,
        an_adopted_container_is_one_like_the_others,
        what_an_adopted_container_was_launched_with_is_written_down,
        an_adoption_that_collides_names_the_other,
        of_two_adoptions_at_once_one_counts,
        only_what_is_lost_or_failed_is_forgotten,
        owners_change_what_is_theirs,
        containers_are_listed_by_page_and_filter;
    costs:
        a_stretch_has_the_price_it_began_with,
        what_a_park_saves_is_in_the_ledger,
        deleted_containers_stay_in_the_ledger_until_it_is_purged,
        the_ledger_is_asked_for_by_project_user_and_time,
        a_settle_that_is_repeated_bills_once,
        containers_of_before_the_ledger_are_brought_into_it;
    images:
        a_saved_image_is_recorded,
        overwriting_moves_updated_at_and_remembers_the_digest,
        a_save_repeated_changes_no_history,
        digests_that_something_needs_are_known,
        images_are_listed_by_page_and_pinned;
    undoing:
        a_deleted_image_is_in_no_list_and_comes_back,
        what_was_overwritten_comes_back_and_so_does_what_it_replaces,
        a_save_under_a_deleted_tag_overwrites_it,
        a_restore_is_refused_with_the_reason,
        of_many_restores_at_once_one_counts,
        what_can_be_restored_is_listed_by_page;
    purging:
        what_is_over_its_grace_is_purged_once,
        what_another_tag_or_an_undo_needs_is_not_purged,
        what_a_container_needs_is_kept_until_it_is_gone,
        a_save_of_what_is_being_purged_waits,
        a_purge_that_failed_is_started_again,
        without_undo_a_deletion_removes_the_content_itself,
        what_falls_out_of_a_tags_history_is_purged;
    retaining:
        a_policy_is_kept_until_it_lets_nothing_go,
        notice_is_given_once_and_then_the_image_goes,
        a_notice_goes_with_its_reason,
        what_a_container_needs_or_a_job_has_stays,
        of_many_schedulers_one_removes,
        a_preview_says_what_happens_and_changes_nothing;
    people:
        users_and_projects_are_made_once,
        members_come_and_go,
        a_project_keeps_what_its_saves_leave_out,
        a_key_works_until_it_is_revoked,
        a_key_works_until_its_time_is_over;
    surveying:
        a_survey_is_taken_once_and_answered_once,
        the_same_question_joins_the_survey_under_way,
        a_survey_whose_worker_died_is_not_joined_for_ever,
        a_survey_is_forgotten_and_stands_in_no_list;
    history:
        jobs_are_listed_newest_first_by_page,
        jobs_are_filtered,
        old_jobs_are_removed_and_others_stay,
        the_audit_trail_is_listed_newest_first_and_removed_when_old;
];

async fn every_clause_holds_on(adapter: &str) -> Result<()> {
    let ground = Ground::new().await?;
    let outcomes = futures_util::stream::iter(CLAUSES).map(async |clause| {
        let checked = async {
            let world = ground.world(adapter, clause.name)?;
            (clause.check)(world.clone()).await?;
            world.check_sound().await.context("the store is not sound afterwards")
        };
        let outcome = tokio::time::timeout(CLAUSE_LIMIT, checked).await.context("it takes too long");
        outcome
            .and_then(|outcome| outcome)
            .err()
            .map(|error| format!("{} on {adapter}: {error:#}", clause.name))
    });
    let broken: Vec<String> =
        outcomes.buffer_unordered(AT_ONCE).filter_map(async |broken| broken).collect().await;
    ensure!(
        broken.is_empty(),
        "{} of {} clauses are broken:\n{}",
        broken.len(),
        CLAUSES.len(),
        broken.join("\n")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_clause_holds_on_redis() -> Result<()> {
    every_clause_holds_on("redis").await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_clause_holds_on_embedded() -> Result<()> {
    every_clause_holds_on("embedded").await
}
