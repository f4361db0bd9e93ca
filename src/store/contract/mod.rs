//! What every store does, as one list of cases that each implementation runs.
//!
//! An implementation says how it is made and expands [`contract_suite!`]:
//!
//! ```ignore
//! async fn make(parts: Parts) -> Made { … }
//! contract_suite!(make);
//! ```
//!
//! Beside the cases, [`agreement`] does the same random things to an implementation and to the model in memory.

pub(crate) mod agreement;
pub(crate) mod anew;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod company;
pub(crate) mod grants;
pub(crate) mod identities;
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod operator;
pub(crate) mod rights;
pub(crate) mod roles;
pub(crate) mod sessions;
pub(crate) mod users;
pub(crate) mod words;

pub(crate) use bench::{Made, Parts};

macro_rules! contract_suite {
    ($make:path) => {
        $crate::store::contract::contract_cases! { $make;
            users:
                a_user_is_made_as_asked
                a_user_is_made_once
                a_deleted_id_rests
                a_user_made_anew_is_another
                an_email_is_one_users
                an_identity_is_one_users
                what_is_no_matter_of_permission_writes_no_row
                another_kind_is_a_change
                what_is_so_already_writes_no_row
                a_suspended_user_is_inactive_until_he_is_not
                nobody_is_patched_who_is_not_there
                sign_in_finds_by_id_then_by_email
            ;
            identities:
                an_identity_is_found_in_its_tenant_alone
                what_an_issuer_gave_ends_with_all_that_was_begun
                a_bearer_acts_as_his_user_while_his_token_holds
                who_is_vouched_for_gets_nothing_reserved
            ;
            roles:
                a_role_is_made_as_asked
                a_role_gives_all_that_it_includes
                a_role_reached_on_two_ways_counts_once
                editing_a_role_is_one_row_and_members_hold_it
                inclusion_is_given_and_taken
                no_role_includes_itself
                deleting_a_role_is_one_row_however_many_hold_it
                a_role_made_anew_has_no_members
                what_is_no_role_here_is_unknown
                a_role_has_room_for_so_many
            ;
            grants:
                a_role_is_given_and_taken
                a_permission_is_given_and_taken
                another_expiry_is_a_change
                grants_are_listed_roles_first
                a_grant_past_its_time_gives_nothing
                each_user_whose_grants_are_over_is_a_row
                what_is_over_goes_in_portions
                a_user_has_room_for_so_many
            ;
            rights:
                an_administrator_does_all_in_his_tenant
                another_tenant_is_unknown_to_him
                nobody_else_does_anything
                only_an_operator_does_what_is_for_operators
                a_right_that_was_lost_meanwhile_is_lost
                who_is_signed_out_does_nothing
                with_his_tenant_goes_his_right
                nobody_acts_in_anothers_session
                no_administrator_gives_what_he_does_not_hold
                nor_does_he_take_it
                nor_does_he_touch_who_holds_it
                an_operator_deals_in_all_three
                a_batch_does_not_climb
                a_batch_is_decided_once
                the_log_names_who_did_it
            ;
            operator:
                the_last_operator_stays
                one_of_two_may_go
                who_does_not_count_is_no_second
                in_a_batch_he_is_lost_at_the_operation_that_loses_him
                where_there_is_none_none_is_missed
            ;
            sessions:
                a_session_is_opened_for_who_may
                a_session_is_over_when_its_time_is_up
                a_refresh_token_rotates_when_it_is_old_enough
                a_used_refresh_token_is_theft
                no_session_is_no_rotation
                a_session_without_a_refresh_token_has_none
                a_session_ends_once
                an_administrator_ends_one_session
                signing_out_is_one_row_and_ends_all
                signing_out_a_tenant_is_one_row_and_ends_all_in_it
                an_idle_session_is_over_and_a_used_one_goes_on
                a_renewed_hash_ends_nothing
                the_end_of_a_tenant_ends_all_in_it
                a_new_password_of_ones_own_ends_the_other_sessions
                a_new_password_by_another_ends_all_sessions
                a_users_sessions_are_listed_while_they_live
            ;
            log:
                a_new_database_has_its_first_tenant
                the_tail_shows_what_is_after
                the_tail_comes_in_pages
                a_position_is_found_by_its_time
                what_is_old_is_taken_from_the_log_but_not_its_head
                the_log_is_read_by_tenant
                a_unit_is_done_in_order
                a_unit_is_done_as_a_whole_or_not
                of_writes_side_by_side_each_stands_alone
                tenants_are_made_altered_and_deleted
                a_deleted_tenant_leaves_nothing
                lists_are_ordered_and_paged
            ;
            anew:
                a_log_that_lacks_what_was_seen_begins_anew
                so_does_one_that_says_something_else_in_its_place
                a_log_that_has_all_that_was_seen_goes_on
                an_epoch_that_was_over_ends_again
            ;
            keys:
                who_comes_first_makes_the_keys
                keys_rotate_and_retire
                revoked_keys_verify_nothing
                a_key_that_is_out_of_use_stays_so
                of_two_rotations_at_once_the_second_is_refused
                a_key_is_retired_before_its_time
                only_an_operator_rotates
                secrets_and_settings_are_whose_comes_first
                one_lockdown_at_a_time
                a_lockdown_lifts_by_itself
                replicas_are_those_that_say_so
            ;
        }
    };
}

/// The audit trail is a database's alone.
macro_rules! audit_suite {
    ($make:path) => {
        $crate::store::contract::contract_cases! { $make;
            audit:
                it_tells_who_did_what_from_where
                what_was_refused_leaves_no_entry
                sessions_and_refusals_are_in_it
                a_theft_is_told_with_where_the_thief_was
                it_is_chained_once
            ;
        }
    };
}

macro_rules! contract_cases {
    ($make:path; $($room:ident: $($case:ident)+;)+) => {
        $(mod $room {
            $(#[tokio::test]
            async fn $case() {
                let bench = $crate::store::contract::bench::Bench::new($make).await;
                $crate::store::contract::$room::$case(bench).await;
            })+
        })+
    };
}

pub(crate) use {audit_suite, contract_cases, contract_suite};
