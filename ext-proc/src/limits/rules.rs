use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::entity::ModelBudget;

/// Settings of the whole gateway about limits and budgets; part of the snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// IANA name of `litellm_settings.timezone`; budget windows begin at its midnight.
    pub timezone: String,
    /// Minutes after midnight at which windows of days begin (`budget_reset_time`).
    pub reset_minute: u32,
    /// Status of a used up budget: 400, 422 or 429 (`litellm_settings.budget_exceeded_status_code`).
    pub budget_status: u16,
    /// What `tpm_limit` and `tpd_limit` count (`general_settings.token_rate_limit_type`).
    pub tokens: TokenKind,
    /// Of every key that has none of its own (`general_settings.max_parallel_requests`).
    pub key_parallel: Option<u64>,
    /// Of the whole gateway (`general_settings.global_max_parallel_requests`).
    pub parallel: Option<u64>,
    /// 503 instead of counting alone while the counters are away (`fail_closed_rate_limit_enforcement`).
    pub fail_closed_limits: bool,
    /// 503 while the spend behind a budget cannot be read (`fail_closed_budget_enforcement`).
    pub fail_closed_budgets: bool,
    /// Nothing is reserved for budgets; they are checked against what is settled (`disable_budget_reservation`).
    pub no_budget_reservation: bool,
    /// The owner's budget holds for keys of a team too (`apply_user_budget_to_team_keys`).
    pub user_budget_for_team_keys: bool,
    /// Budgets of everyone only count what they would have refused (`features.budget_mode: audit`).
    pub budget_audit: bool,
    /// Of the whole gateway (`litellm_settings.max_budget`, `budget_duration`).
    pub budget: Option<ModelBudget>,
    /// Of every end user without one (`max_end_user_budget`), nano-dollars.
    pub end_user_budget_nanos: Option<u64>,
    /// Shared budget of every end user without one (`max_end_user_budget_id`).
    pub end_user_budget_id: Option<String>,
    /// Of users without one (`max_internal_user_budget`, `internal_user_budget_duration`).
    pub user_budget: Option<ModelBudget>,
    /// By tag (`tag_budget_config`).
    pub tag_budgets: BTreeMap<String, ModelBudget>,
    /// The body's `user` is mandatory (`enforce_user_param`).
    pub require_user: bool,
}

/// The time zone of an IANA name, from the database that is built in.
///
/// # Errors
/// Nobody knows the name.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    let unknown = |_| format!("`{name}` is no time zone: use an IANA name such as `UTC` or `Europe/Berlin`");
    jiff::tz::db().get(name).map_err(unknown)
}

impl Rules {
    /// Where budget windows begin and end; UTC when nobody knows `timezone`.
    #[must_use]
    pub fn time_zone(&self) -> TimeZone {
        // The database keeps what it has read: this is a look into a table.
        time_zone(&self.timezone).unwrap_or(TimeZone::UTC)
    }
}

/// Which tokens a limit counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenKind {
    #[default]
    Total,
    Input,
    Output,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            timezone: "UTC".to_owned(),
            reset_minute: 0,
            budget_status: 429,
            tokens: TokenKind::Total,
            key_parallel: None,
            parallel: None,
            fail_closed_limits: false,
            fail_closed_budgets: false,
            no_budget_reservation: false,
            user_budget_for_team_keys: false,
            budget_audit: false,
            budget: None,
            end_user_budget_nanos: None,
            end_user_budget_id: None,
            user_budget: None,
            tag_budgets: BTreeMap::new(),
            require_user: false,
        }
    }
}
