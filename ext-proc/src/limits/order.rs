//! Which limits there are, and in which order they are asked: one table for the code and for docs/limits.md.

use std::collections::BTreeMap;

use crate::entity::{EntityKind, ModelBudget, Settings};

/// What a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    /// Nano-dollars per window of the budget.
    Budget,
    /// Requests per minute.
    Rpm,
    /// Tokens per minute: total, input or output by [`super::Rules::tokens`].
    Tpm,
    /// Prompt tokens per minute.
    InputTpm,
    /// Completion tokens per minute.
    OutputTpm,
    /// Requests per day (UTC).
    Rpd,
    /// Tokens per day (UTC), counted as [`Self::Tpm`].
    Tpd,
    /// Requests in flight.
    Parallel,
}

impl Dimension {
    /// Every dimension; the position is its bit in an [`super::Owner`].
    pub const ALL: [Self; 8] = [
        Self::Budget,
        Self::Rpm,
        Self::Tpm,
        Self::InputTpm,
        Self::OutputTpm,
        Self::Rpd,
        Self::Tpd,
        Self::Parallel,
    ];

    /// Last part of its counters' names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Rpm => "rpm",
            Self::Tpm => "tpm",
            Self::InputTpm => "itpm",
            Self::OutputTpm => "otpm",
            Self::Rpd => "rpd",
            Self::Tpd => "tpd",
            Self::Parallel => "parallel",
        }
    }

    /// LiteLLM's name of the kind of limit: `requests`, `tokens`, `max_parallel_requests`; `budget` for money.
    #[must_use]
    pub const fn limit_type(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Rpm | Self::Rpd => "requests",
            Self::Tpm | Self::InputTpm | Self::OutputTpm | Self::Tpd => "tokens",
            Self::Parallel => "max_parallel_requests",
        }
    }

    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Who is limited: an entity, or an entity's use of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Of(EntityKind),
    /// The key's requests with one tag (`tag_rpm_limit` of the key).
    KeyTag,
}

impl Subject {
    /// Is it somebody's use of one model?
    pub(super) const fn is_model(self) -> bool {
        matches!(self, Self::Of(EntityKind::KeyModel | EntityKind::TeamModel | EntityKind::UserModel))
    }
}

/// Where a limit is written.
#[derive(Clone, Copy)]
pub(super) enum Read {
    /// A setting of the entity, else of the budget that it shares, else a default.
    Setting(fn(&Settings) -> Option<u64>),
    /// `max_budget` and its window, likewise.
    Budget,
    /// Per model; LiteLLM keeps it in `metadata` under this name, which is read too.
    PerModel(fn(&Settings) -> &BTreeMap<String, u64>, &'static str),
    /// `model_max_budget`.
    ModelBudget(fn(&Settings) -> &BTreeMap<String, ModelBudget>),
    /// Per tag: a setting that LiteLLM keeps in `metadata` under this name, which is read too.
    PerTag(&'static str),
}

/// A row of [`ORDER`].
pub(super) struct Check {
    pub(super) subject: Subject,
    pub(super) dimension: Dimension,
    pub(super) read: Read,
    /// For docs/limits.md: the setting, and when it holds.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the table in the docs, which a test makes"))]
    pub(super) setting: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the table in the docs, which a test makes"))]
    pub(super) about: &'static str,
}

macro_rules! order {
    ($($kind:ident $dimension:ident $read:expr, $setting:literal, $about:literal;)*) => {
        &[$(Check {
            subject: order!(@ $kind),
            dimension: Dimension::$dimension,
            read: $read,
            setting: $setting,
            about: $about,
        }),*]
    };
    (@ KeyTag) => { Subject::KeyTag };
    (@ $kind:ident) => { Subject::Of(EntityKind::$kind) };
}

const RPM: Read = Read::Setting(|s| s.rpm_limit);
const TPM: Read = Read::Setting(|s| s.tpm_limit);
const ITPM: Read = Read::Setting(|s| s.input_tpm_limit);
const OTPM: Read = Read::Setting(|s| s.output_tpm_limit);
const RPD: Read = Read::Setting(|s| s.rpd_limit);
const TPD: Read = Read::Setting(|s| s.tpd_limit);
const PARALLEL: Read = Read::Setting(|s| s.max_parallel_requests);
const MODEL_RPM: Read = Read::PerModel(|s| &s.model_rpm_limit, "model_rpm_limit");
const MODEL_TPM: Read = Read::PerModel(|s| &s.model_tpm_limit, "model_tpm_limit");
const MODEL_BUDGET: Read = Read::ModelBudget(|s| &s.model_max_budget);

/// Every limit, in the order in which they are asked: the first without room is the one that the client hears of. Money
/// first, since waiting a minute does not help there.
pub(super) const ORDER: &[Check] = order! {
    Key Budget Read::Budget, "max_budget", "";
    KeyModel Budget MODEL_BUDGET, "model_max_budget", "the entry of the model, its group or a wildcard";
    Team Budget Read::Budget, "max_budget", "";
    TeamModel Budget MODEL_BUDGET, "model_max_budget", "the entry of the model, its group or a wildcard";
    Organization Budget Read::Budget, "max_budget", "";
    Tag Budget Read::Budget, "max_budget", "else `tag_budget_config`";
    User Budget Read::Budget, "max_budget", "else `max_internal_user_budget`; not for keys of a team, unless `apply_user_budget_to_team_keys`";
    UserModel Budget MODEL_BUDGET, "model_max_budget", "not for keys of a team, unless `apply_user_budget_to_team_keys`";
    Member Budget Read::Budget, "max_budget", "else the team's `team_member_budget`";
    EndUser Budget Read::Budget, "max_budget", "else that of `max_end_user_budget_id`, else `max_end_user_budget`";
    Proxy Budget Read::Budget, "max_budget", "`litellm_settings.max_budget`; for the master key too";
    Key Parallel PARALLEL, "max_parallel_requests", "else `general_settings.max_parallel_requests`";
    Key Rpm RPM, "rpm_limit", "";
    Key Tpm TPM, "tpm_limit", "";
    Key InputTpm ITPM, "input_tpm_limit", "";
    Key OutputTpm OTPM, "output_tpm_limit", "";
    Key Rpd RPD, "rpd_limit", "";
    Key Tpd TPD, "tpd_limit", "";
    KeyModel Rpm MODEL_RPM, "model_rpm_limit", "the entry of the model, its group or a wildcard";
    KeyModel Tpm MODEL_TPM, "model_tpm_limit", "the entry of the model, its group or a wildcard";
    KeyTag Rpm Read::PerTag("tag_rpm_limit"), "tag_rpm_limit", "of the key, for requests with the tag";
    Team Parallel PARALLEL, "max_parallel_requests", "";
    Team Rpm RPM, "rpm_limit", "";
    Team Tpm TPM, "tpm_limit", "";
    Team InputTpm ITPM, "input_tpm_limit", "";
    Team OutputTpm OTPM, "output_tpm_limit", "";
    Team Rpd RPD, "rpd_limit", "";
    Team Tpd TPD, "tpd_limit", "";
    TeamModel Rpm MODEL_RPM, "model_rpm_limit", "unless the key has a `model_rpm_limit` for the model";
    TeamModel Tpm MODEL_TPM, "model_tpm_limit", "unless the key has a `model_tpm_limit` for the model";
    Member Parallel PARALLEL, "max_parallel_requests", "";
    Member Rpm RPM, "rpm_limit", "else the team's `team_member_rpm_limit`";
    Member Tpm TPM, "tpm_limit", "else the team's `team_member_tpm_limit`";
    Member InputTpm ITPM, "input_tpm_limit", "";
    Member OutputTpm OTPM, "output_tpm_limit", "";
    Member Rpd RPD, "rpd_limit", "";
    Member Tpd TPD, "tpd_limit", "";
    User Parallel PARALLEL, "max_parallel_requests", "";
    User Rpm RPM, "rpm_limit", "";
    User Tpm TPM, "tpm_limit", "";
    User InputTpm ITPM, "input_tpm_limit", "";
    User OutputTpm OTPM, "output_tpm_limit", "";
    User Rpd RPD, "rpd_limit", "";
    User Tpd TPD, "tpd_limit", "";
    UserModel Rpm MODEL_RPM, "model_rpm_limit", "the entry of the model, its group or a wildcard";
    UserModel Tpm MODEL_TPM, "model_tpm_limit", "the entry of the model, its group or a wildcard";
    Organization Parallel PARALLEL, "max_parallel_requests", "";
    Organization Rpm RPM, "rpm_limit", "";
    Organization Tpm TPM, "tpm_limit", "";
    Organization InputTpm ITPM, "input_tpm_limit", "";
    Organization OutputTpm OTPM, "output_tpm_limit", "";
    Organization Rpd RPD, "rpd_limit", "";
    Organization Tpd TPD, "tpd_limit", "";
    EndUser Parallel PARALLEL, "max_parallel_requests", "";
    EndUser Rpm RPM, "rpm_limit", "";
    EndUser Tpm TPM, "tpm_limit", "";
    EndUser InputTpm ITPM, "input_tpm_limit", "";
    EndUser OutputTpm OTPM, "output_tpm_limit", "";
    EndUser Rpd RPD, "rpd_limit", "";
    EndUser Tpd TPD, "tpd_limit", "";
    Tag Parallel PARALLEL, "max_parallel_requests", "";
    Tag Rpm RPM, "rpm_limit", "";
    Tag Tpm TPM, "tpm_limit", "";
    Tag InputTpm ITPM, "input_tpm_limit", "";
    Tag OutputTpm OTPM, "output_tpm_limit", "";
    Tag Rpd RPD, "rpd_limit", "";
    Tag Tpd TPD, "tpd_limit", "";
    Proxy Parallel PARALLEL, "max_parallel_requests", "`general_settings.global_max_parallel_requests`; for the master key too";
};

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
