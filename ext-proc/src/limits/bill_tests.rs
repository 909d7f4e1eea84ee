use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::entity::{Entity, Holder, ModelBudget, Settings, member_id};
use crate::limits::cheaper;
use crate::limits::testing::{NOW, demand, everyone, holder, of_key};

const DAY: u64 = NOW / 86_400_000;
const MINUTE: u64 = NOW / 60_000;

fn settings(value: serde_json::Value) -> Settings {
    serde_json::from_value(value).unwrap()
}

fn billed(principal: &Principal) -> Bill {
    bill(&Rules::default(), principal, &demand())
}

/// `counter amount/limit` of every required limit.
fn required(bill: &Bill) -> Vec<String> {
    assert_eq!(bill.required.len(), bill.lines.len());
    let line = |limited: &Limited| {
        let limit = limited.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        format!("{} {}/{limit}", limited.counter, limited.amount)
    };
    bill.required.iter().map(line).collect()
}

fn of_kind(wanted: EntityKind, set: serde_json::Value) -> Principal {
    let set = settings(set);
    everyone(|kind| if kind == wanted { set.clone() } else { Settings::default() })
}

fn all_dimensions() -> serde_json::Value {
    json!({
        "rpm_limit": 1, "tpm_limit": 2, "input_tpm_limit": 3, "output_tpm_limit": 4, "rpd_limit": 5, "tpd_limit": 6,
        "max_parallel_requests": 7, "max_budget_nanos": 8, "budget_duration": "1d",
    })
}

#[test]
fn every_dimension_has_its_counter_window_and_amount() {
    let bill = billed(&of_key(settings(all_dimensions())));
    let wanted = [
        format!("key:ab12:budget:{} 7000/8", DAY * 86_400),
        "key:ab12:parallel:0 1/7".to_owned(),
        format!("key:ab12:rpm:{MINUTE} 1/1"),
        format!("key:ab12:tpm:{MINUTE} 150/2"),
        format!("key:ab12:itpm:{MINUTE} 100/3"),
        format!("key:ab12:otpm:{MINUTE} 50/4"),
        format!("key:ab12:rpd:{DAY} 1/5"),
        format!("key:ab12:tpd:{DAY} 150/6"),
    ];
    assert_eq!(required(&bill), wanted);
    let shrinks: Vec<_> = bill.required.iter().map(|limited| limited.shrink).collect();
    assert_eq!(shrinks, [true, false, false, false, false, false, false, false]);
    let resets: Vec<_> = bill.lines.iter().map(|line| line.resets_ms).collect();
    let (minute, day) = (Some((MINUTE + 1) * 60_000), Some((DAY + 1) * 86_400_000));
    assert_eq!(resets, [day, None, minute, minute, minute, minute, day, day]);
    let lease = demand().lease;
    assert!(bill.required[1].ttl > lease, "a place outlives its lease");
}

#[test]
fn everyone_may_have_every_limit() {
    for (kind, base) in [
        (EntityKind::Key, "key:ab12:"),
        (EntityKind::Team, "team:search:"),
        (EntityKind::Member, "member:search\u{1f}ann:"),
        (EntityKind::Organization, "organization:acme:"),
        (EntityKind::EndUser, "end_user:eve:"),
        (EntityKind::Tag, "tag:batch:"),
    ] {
        let bill = billed(&of_kind(kind, all_dimensions()));
        assert_eq!(bill.lines.len(), 8, "{kind}");
        for (limited, line) in bill.required.iter().zip(&bill.lines) {
            assert!(limited.counter.base.starts_with(base), "{kind}: {}", limited.counter);
            assert_eq!(line.of.kind, kind);
        }
    }
}

#[test]
fn limits_are_asked_in_the_order_of_the_table() {
    let principal = everyone(|_| settings(all_dimensions()));
    let rules = Rules { user_budget_for_team_keys: true, parallel: Some(9), ..Rules::default() };
    let bill = bill(&rules, &principal, &demand());
    let asked: Vec<_> = bill.lines.iter().map(|line| (line.subject, line.dimension)).collect();
    let order = ORDER.iter().map(|check| (check.subject, check.dimension));
    let wanted: Vec<_> = order.filter(|of| asked.contains(of)).collect();
    assert_eq!(asked, wanted);
    assert_eq!(asked.len(), 7 * 8 + 1);
}

#[test]
fn the_owners_budget_is_not_for_keys_of_a_team() {
    let limits =
        json!({"max_budget_nanos": 5, "rpm_limit": 3, "model_max_budget": {"gpt-4o": {"limit_nanos": 1}}});
    let team_key = of_kind(EntityKind::User, limits.clone());
    assert_eq!(required(&billed(&team_key)), [format!("user:ann:rpm:{MINUTE} 1/3")]);
    let rules = Rules { user_budget_for_team_keys: true, ..Rules::default() };
    assert_eq!(bill(&rules, &team_key, &demand()).lines.len(), 3);
    let user = Some(holder(EntityKind::User, "ann", settings(limits)));
    let personal = Principal { user, ..of_key(Settings::default()) };
    assert_eq!(billed(&personal).lines.len(), 3);
}

#[test]
fn members_have_the_teams_limits_for_members_unless_they_have_their_own() {
    let team = json!({
        "team_member_rpm_limit": 10, "team_member_tpm_limit": 20, "team_member_budget_nanos": 30,
        "team_member_budget_duration": "1d",
    });
    let principal = of_kind(EntityKind::Team, team);
    let member = "member:search\u{1f}ann";
    let midnight = DAY * 86_400;
    let wanted = [
        format!("{member}:budget:{midnight} 7000/30"),
        format!("{member}:rpm:{MINUTE} 1/10"),
        format!("{member}:tpm:{MINUTE} 150/20"),
    ];
    assert_eq!(required(&billed(&principal)), wanted);
    let stranger = Principal { member: None, ..principal.clone() };
    assert_eq!(required(&billed(&stranger)), wanted, "of a member whom nobody stored");
    let own = settings(json!({"rpm_limit": 1, "max_budget_nanos": 2}));
    let member = Some(holder(EntityKind::Member, &member_id("search", "ann"), own));
    let values = required(&billed(&Principal { member, ..principal }));
    assert!(values[0].ends_with(&format!("{midnight} 7000/2")), "{values:?}");
    assert!(values[1].ends_with("1/1") && values[2].ends_with("150/20"), "{values:?}");
}

#[test]
fn a_shared_budget_holds_where_there_is_no_own_setting() {
    let mut principal = of_key(settings(json!({"rpm_limit": 1})));
    let mut budget = Entity::new(EntityKind::Budget, "b");
    budget.settings = settings(json!({"rpm_limit": 9, "tpm_limit": 8, "max_budget_nanos": 7}));
    principal.key.as_mut().unwrap().budget = Some(Arc::new(budget));
    let wanted = [
        "key:ab12:budget:0 7000/7".to_owned(),
        format!("key:ab12:rpm:{MINUTE} 1/1"),
        format!("key:ab12:tpm:{MINUTE} 150/8"),
    ];
    assert_eq!(required(&billed(&principal)), wanted);
}

#[test]
fn defaults_of_the_configuration_hold_for_those_without_limits() {
    let rules = Rules {
        key_parallel: Some(4),
        parallel: Some(100),
        budget: Some(ModelBudget { limit_nanos: 50, duration: Some("1d".into()) }),
        user_budget: Some(ModelBudget { limit_nanos: 60, duration: None }),
        end_user_budget_nanos: Some(70),
        tag_budgets: [("batch".to_owned(), ModelBudget { limit_nanos: 80, duration: Some("1d".into()) })]
            .into(),
        user_budget_for_team_keys: true,
        ..Rules::default()
    };
    let midnight = DAY * 86_400;
    let wanted = [
        format!("tag:batch:budget:{midnight} 7000/80"),
        "user:ann:budget:0 7000/60".to_owned(),
        "end_user:eve:budget:0 7000/70".to_owned(),
        format!("proxy:proxy:budget:{midnight} 7000/50"),
        "key:ab12:parallel:0 1/4".to_owned(),
        "proxy:proxy:parallel:0 1/100".to_owned(),
    ];
    let nobody = everyone(|_| Settings::default());
    assert_eq!(required(&bill(&rules, &nobody, &demand())), wanted);
    let own = everyone(|_| settings(json!({"max_budget_nanos": 1, "max_parallel_requests": 2})));
    let values = required(&bill(&rules, &own, &demand()));
    assert!(values.contains(&"end_user:eve:budget:0 7000/1".to_owned()), "{values:?}");
    assert!(values.contains(&"key:ab12:parallel:0 1/2".to_owned()), "{values:?}");
    let strangers = Principal { end_user: Some(("zoe".into(), None)), ..of_key(Settings::default()) };
    assert!(
        required(&bill(&rules, &strangers, &demand())).contains(&"end_user:zoe:budget:0 7000/70".to_owned())
    );
}

#[test]
fn the_budget_for_end_users_is_each_ones_own() {
    let mut budget = Entity::new(EntityKind::Budget, "free");
    budget.settings = settings(json!({"max_budget_nanos": 9, "budget_duration": "1d", "rpm_limit": 3}));
    let with = |budget: &Entity| Principal {
        end_user: Some(("zoe".into(), None)),
        end_user_budget: Some(Arc::new(budget.clone())),
        ..of_key(Settings::default())
    };
    let rules = Rules { end_user_budget_nanos: Some(70), ..Rules::default() };
    let found = bill(&rules, &with(&budget), &demand());
    let wanted =
        [format!("end_user:zoe:budget:{} 7000/9", DAY * 86_400), format!("end_user:zoe:rpm:{MINUTE} 1/3")];
    assert_eq!(required(&found), wanted);
    let questions = found.seeds(&[0]);
    assert_eq!(
        (questions[0].of.clone(), questions[0].since_s),
        (EntityRef::new(EntityKind::EndUser, "zoe"), Some(DAY * 86_400)),
        "nobody stored zoe: the ledger knows her use"
    );
    budget.settings = settings(json!({"rpm_limit": 3}));
    let values = required(&bill(&rules, &with(&budget), &demand()));
    assert_eq!(values[0], "end_user:zoe:budget:0 7000/70", "a budget without an amount leaves the other");
    budget.settings = settings(json!({"max_budget_nanos": 9, "budget_audit": true}));
    assert_eq!(required(&billed(&with(&budget))), ["end_user:zoe:budget:0 7000/-"]);
}

#[test]
fn the_master_key_has_the_limits_of_the_gateway_alone() {
    let principal = Principal { key: None, ..everyone(|_| settings(all_dimensions())) };
    let rules = Rules {
        key_parallel: Some(1),
        parallel: Some(100),
        end_user_budget_nanos: Some(1),
        budget: Some(ModelBudget { limit_nanos: 50, duration: None }),
        ..Rules::default()
    };
    let wanted = ["proxy:proxy:budget:0 7000/50", "proxy:proxy:parallel:0 1/100"];
    assert_eq!(required(&bill(&rules, &principal, &demand())), wanted);
}

#[test]
fn limits_by_model_name_the_group_the_model_or_a_wildcard() {
    let of = |entries: &[(&str, u64)]| {
        let map: serde_json::Map<_, _> =
            entries.iter().map(|(name, limit)| ((*name).into(), json!(limit))).collect();
        let bill = billed(&of_key(settings(json!({"model_rpm_limit": map}))));
        bill.lines.first().map(|line| (line.model.clone().unwrap(), line.limit.unwrap()))
    };
    assert_eq!(of(&[("gpt-4o", 1), ("gpt", 2), ("gpt-*", 3), ("*", 4)]), Some(("gpt-4o".into(), 1)));
    assert_eq!(of(&[("gpt", 2), ("gpt-*", 3), ("*", 4)]), Some(("gpt".into(), 2)));
    assert_eq!(of(&[("gpt-*", 3), ("*", 4)]), Some(("gpt-*".into(), 3)));
    assert_eq!(of(&[("*", 4), ("claude", 5)]), Some(("*".into(), 4)));
    assert_eq!(of(&[("claude", 5), ("openai/*", 6)]), None);
    let bill = billed(&of_key(settings(json!({"model_tpm_limit": {"gpt-*": 3}}))));
    assert_eq!(
        required(&bill),
        [format!("key_model:ab12\u{1f}gpt-*:tpm:{MINUTE} 150/3")],
        "one counter for all of them"
    );
}

#[test]
fn what_litellm_keeps_in_metadata_counts() {
    let metadata = json!({
        "model_rpm_limit": {"gpt-4o": 1}, "model_tpm_limit": {"gpt-4o": 2.0}, "tag_rpm_limit": {"batch": 3, "other": 4},
    });
    let mut principal = of_key(settings(json!({"metadata": metadata})));
    principal.tags = vec![("batch".into(), None), ("batch".into(), None)];
    let wanted = [
        format!("key_model:ab12\u{1f}gpt-4o:rpm:{MINUTE} 1/1"),
        format!("key_model:ab12\u{1f}gpt-4o:tpm:{MINUTE} 150/2"),
        format!("key_tag:ab12\u{1f}batch:rpm:{MINUTE} 1/3"),
    ];
    assert_eq!(required(&billed(&principal)), wanted);
    let top = of_key(settings(json!({"tag_rpm_limit": {"batch": 3}})));
    let top = Principal { tags: vec![("batch".into(), None)], ..top };
    assert_eq!(billed(&top).lines.len(), 1, "as the admin API keeps it");
}

#[test]
fn a_keys_limit_for_a_model_stands_for_the_teams() {
    let team = settings(json!({
        "model_rpm_limit": {"gpt-4o": 1}, "model_tpm_limit": {"gpt-4o": 2}, "model_max_budget": {"gpt-4o": {"limit_nanos": 3}},
    }));
    let key = settings(json!({
        "model_rpm_limit": {"gpt-4o": 9}, "model_max_budget": {"gpt-4o": {"limit_nanos": 8, "duration": "1d"}},
    }));
    let principal = everyone(|kind| match kind {
        EntityKind::Key => key.clone(),
        EntityKind::Team => team.clone(),
        _ => Settings::default(),
    });
    let wanted = [
        format!("key_model:ab12\u{1f}gpt-4o:budget:{} 7000/8", DAY * 86_400),
        "team_model:search\u{1f}gpt-4o:budget:0 7000/3".to_owned(),
        format!("key_model:ab12\u{1f}gpt-4o:rpm:{MINUTE} 1/9"),
        format!("team_model:search\u{1f}gpt-4o:tpm:{MINUTE} 150/2"),
    ];
    assert_eq!(required(&billed(&principal)), wanted);
}

#[test]
fn tokens_are_counted_as_the_rules_say() {
    for (kind, amount) in [(crate::limits::TokenKind::Input, 100), (crate::limits::TokenKind::Output, 50)] {
        let rules = Rules { tokens: kind, ..Rules::default() };
        let bill = bill(&rules, &of_key(settings(json!({"tpm_limit": 9, "tpd_limit": 9}))), &demand());
        assert!(bill.required.iter().all(|limited| limited.amount == amount));
    }
}

#[test]
fn a_temporary_increase_ends() {
    let limit = |until: u64| {
        let set =
            json!({"max_budget_nanos": 5, "temp_budget_increase_nanos": 3, "temp_budget_expiry_ms": until});
        billed(&of_key(settings(set))).required[0].limit
    };
    assert_eq!((limit(NOW + 1), limit(NOW)), (Some(8), Some(5)));
}

#[test]
fn audit_counts_and_refuses_nothing() {
    let audited = json!({"max_budget_nanos": 5, "budget_audit": true, "rpm_limit": 2});
    let by_rules = Rules { budget_audit: true, ..Rules::default() };
    let of_rules =
        bill(&by_rules, &of_key(settings(json!({"max_budget_nanos": 5, "rpm_limit": 2}))), &demand());
    for bill in [billed(&of_key(settings(audited))), of_rules] {
        let limits: Vec<_> = bill.required.iter().map(|limited| (limited.limit, limited.shrink)).collect();
        assert_eq!(limits, [(None, false), (Some(2), false)], "rate limits still refuse");
        assert!(bill.lines[0].audit && !bill.lines[1].audit);
        assert!(bill.overrun(&[7_004, 1]).is_empty(), "4 were spent before");
        let over = bill.overrun(&[7_005, 1]);
        assert_eq!((over.len(), over[0].limit), (1, Some(5)));
    }
}

#[test]
fn soft_budgets_only_tell() {
    let bill = billed(&of_key(settings(json!({"soft_budget_nanos": 10}))));
    assert_eq!((bill.required[0].limit, bill.lines[0].limit, bill.lines[0].audit), (None, None, false));
    assert!(bill.alerts(&[7_009]).is_empty());
    assert_eq!(bill.alerts(&[7_010]).len(), 1);
    assert!(bill.overrun(&[u64::MAX]).is_empty());
}

#[test]
fn without_reservation_budgets_are_only_looked_at() {
    let rules = Rules { no_budget_reservation: true, ..Rules::default() };
    let bill = bill(&rules, &of_key(settings(json!({"max_budget_nanos": 5}))), &demand());
    assert_eq!(required(&bill), ["key:ab12:budget:0 0/5"]);
    assert!(bill.owner.counts_something(), "what was used is charged all the same");
}

#[test]
fn near_the_limit_there_are_cheaper_models() {
    let set = json!({
        "max_budget_nanos": 1_000, "budget_fallbacks": {"gpt-4o": ["mini", "nano"]}, "budget_fallback_percent": 80,
    });
    let team =
        settings(json!({"budget_fallbacks": {"gpt": ["team's"], "big": ["small"]}, "max_budget_nanos": 500}));
    let principal = everyone(|kind| match kind {
        EntityKind::Key => settings(set.clone()),
        EntityKind::Team => team.clone(),
        _ => Settings::default(),
    });
    assert_eq!(cheaper(&principal, "gpt", "gpt-4o"), ["mini", "nano"]);
    assert_eq!(cheaper(&principal, "big", "big"), ["small"]);
    assert!(cheaper(&principal, "mini", "mini").is_empty());
    let limits = |model: &'static str| {
        let bill = bill(&Rules::default(), &principal, &Demand { model, group: model, ..demand() });
        (bill.required.iter().map(|limited| limited.limit.unwrap()).collect::<Vec<_>>(), bill.is_budget(0))
    };
    assert_eq!(limits("gpt-4o"), (vec![800, 400], true));
    assert_eq!(limits("mini"), (vec![1_000, 500], true), "the cheaper one may have the rest");
}

#[test]
fn seeds_are_asked_of_those_who_know() {
    let set = json!({"max_budget_nanos": 5, "rpd_limit": 9, "rpm_limit": 1, "account": "first"});
    let mut bill = billed(&of_key(settings(set)));
    let names: Vec<_> = bill.required.iter().map(|limited| limited.seed).collect();
    assert_eq!(names, [Seed::Ask, Seed::Zero, Seed::Ask], "{:?}", required(&bill));
    let questions = bill.seeds(&[0, 1, 2, 99]);
    let key = |id: &str| EntityRef::new(EntityKind::Key, id);
    let wanted = [
        Question { at: 0, of: key("ab12"), since_s: None, counter: bill.required[0].counter.clone() },
        Question {
            at: 2,
            of: key("first"),
            since_s: Some(DAY * 86_400),
            counter: bill.required[2].counter.clone(),
        },
    ];
    assert_eq!(questions, wanted, "the spend is the entity's, the use the account's");
    bill.seed(0, &UsageSum::default());
    bill.seed(2, &UsageSum { requests: 7, prompt_tokens: 1, completion_tokens: 2, nanos: 3 });
    assert_eq!((bill.required[0].seed, bill.required[2].seed), (Seed::Known(0), Seed::Known(7)));
    bill.seed(0, &UsageSum { nanos: 3, ..UsageSum::default() });
    assert_eq!(bill.required[0].seed, Seed::Known(3));
    bill.seed(0, &UsageSum::default());
    bill.seed(99, &UsageSum::default());
    assert_eq!(bill.required[0].seed, Seed::Known(0));
}

#[test]
fn the_seed_of_a_window_is_its_own() {
    let source = |duration: &str, reset_ms: u64| {
        let mut entity = Entity::new(EntityKind::Key, "k");
        entity.settings = settings(json!({"max_budget_nanos": 5, "budget_duration": duration}));
        entity.spend_reset_ms = reset_ms;
        let principal = Principal { key: Some(Holder::own(Arc::new(entity))), ..Principal::default() };
        let bill = billed(&principal);
        (bill.seeds(&[0]).first().map(|question| question.since_s), bill.required[0].counter.window)
    };
    let midnight = DAY * 86_400;
    assert_eq!(source("1d", 0), (Some(Some(midnight)), midnight));
    assert_eq!(source("1d", midnight * 1_000 - 1), (Some(Some(midnight)), midnight));
    let reset = NOW - 1;
    assert_eq!(source("1d", reset), (Some(None), reset), "the stored spend begins with the reset");
    assert_eq!(source("30s", 0).0, None, "usage is not known so exactly");
}

#[test]
fn a_limit_of_zero_is_a_limit() {
    let bill = billed(&of_key(settings(json!({"rpm_limit": 0, "max_budget_nanos": 0}))));
    assert!(bill.required.iter().all(|limited| limited.limit == Some(0)));
}

#[test]
fn keys_are_never_shown_whole() {
    let mut entity = (*of_key(settings(all_dimensions())).key.unwrap().entity).clone();
    entity.alias = Some("nightly".into());
    let principal = Principal { key: Some(Holder::own(Arc::new(entity))), ..Principal::default() };
    let shown: Vec<_> = billed(&principal).lines.into_iter().map(|line| line.shown).collect();
    assert!(shown.iter().all(|shown| shown == "nightly (sk-...last)"), "{shown:?}");
}

fn some_settings() -> impl Strategy<Value = Settings> {
    let limit = || prop::option::of(0_u64..100);
    let models = || prop::collection::btree_map("gpt|gpt-4o|gpt-\\*|\\*|other", 0_u64..9, 0..3);
    (limit(), limit(), limit(), limit(), limit(), models(), models(), any::<bool>()).prop_map(
        |(rpm, tpm, rpd, parallel, budget, by_model, budgets, day)| Settings {
            rpm_limit: rpm,
            tpm_limit: tpm,
            rpd_limit: rpd,
            max_parallel_requests: parallel,
            max_budget_nanos: budget,
            budget_duration: day.then(|| "1d".to_owned()),
            team_member_rpm_limit: rpm,
            model_rpm_limit: by_model,
            model_max_budget: budgets
                .into_iter()
                .map(|(name, limit_nanos)| (name, ModelBudget { limit_nanos, duration: None }))
                .collect(),
            ..Settings::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// The store's rule: no counter twice. And what is reserved is what can be settled.
    #[test]
    fn no_counter_is_charged_twice(all in prop::collection::vec(some_settings(), 7), member in any::<bool>()) {
        let at = |kind| match kind {
            EntityKind::Key => 0,
            EntityKind::Team => 1,
            EntityKind::User => 2,
            EntityKind::Member => 3,
            EntityKind::Organization => 4,
            EntityKind::EndUser => 5,
            _ => 6,
        };
        let mut principal = everyone(|kind| all[at(kind)].clone());
        if !member {
            principal.member = None;
        }
        let rules = Rules { user_budget_for_team_keys: true, parallel: Some(3), ..Rules::default() };
        let bill = bill(&rules, &principal, &demand());
        let mut counters: Vec<_> = bill.required.iter().map(|limited| limited.counter.to_string()).collect();
        counters.sort();
        let count = counters.len();
        counters.dedup();
        prop_assert_eq!(counters.len(), count);
        counters.retain(|name| !name.contains(":parallel:"));
        let used = crate::limits::Used { requests: 1, input: 1, output: 1, nanos: 1 };
        let actual = bill.owner.settlement("c", &used).actual;
        let mut settled: Vec<_> = actual.iter().map(|charge| charge.counter.to_string()).collect();
        settled.sort();
        prop_assert_eq!(settled, counters);
    }
}
