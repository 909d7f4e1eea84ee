//! What a deployment can do, and what is done about the rest.

use attache_llm::dialect::support::{Capabilities, ParamRules};

use super::{LitellmParams, LitellmSettings, ModelInfo};
use crate::prices::{ModelPrice, SUPPORTS};

/// `drop_params` and its kin; the deployment's own win.
pub(super) fn rules(params: &LitellmParams, settings: &LitellmSettings) -> ParamRules {
    ParamRules {
        drop: params.drop_params.unwrap_or(settings.drop_params),
        also_drop: params.additional_drop_params.clone(),
        allowed: params.allowed_openai_params.clone(),
        extra_body: params.extra_body.clone(),
        modify: params.modify_params.unwrap_or(settings.modify_params),
    }
}

/// The price table's facts with `model_info` over them.
pub(super) fn capabilities(info: &ModelInfo, known: Option<&ModelPrice>) -> Capabilities {
    let listed = known.into_iter().flat_map(|row| &row.supports);
    let mut supports: std::collections::BTreeMap<String, bool> =
        listed.map(|(name, has)| ((*name).to_owned(), *has)).collect();
    let own = info
        .prices
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(SUPPORTS)?.to_owned(), value.as_bool()?)));
    supports.extend(own);
    let max_output = info.max_output_tokens.or_else(|| known?.max_output_tokens);
    Capabilities { max_output, supports }
}
