use proptest::prelude::*;

use super::*;
use crate::entity::{Holder, Settings};
use crate::limits::testing::{NOW, demand, everyone, holder, of_key};
use crate::limits::{Demand, Rules, bill};

fn person(kind: EntityKind, id: &str) -> Holder {
    holder(kind, id, Settings::default())
}

fn limits() -> Settings {
    Settings {
        rpm_limit: Some(10),
        tpm_limit: Some(1_000),
        tpd_limit: Some(9_000),
        max_parallel_requests: Some(3),
        max_budget_nanos: Some(1_000_000),
        budget_duration: Some("1d".into()),
        ..Settings::default()
    }
}

fn amounts(settlement: &Settlement) -> Vec<(String, u64)> {
    settlement.actual.iter().map(|charge| (charge.counter.to_string(), charge.amount)).collect()
}

#[test]
fn a_key_on_its_own_needs_no_words() {
    let bill = bill(&Rules::default(), &of_key(Settings::default()), &demand());
    assert_eq!(bill.owner.encode(), None);
    assert!(bill.owner.parts.is_empty() && bill.required.is_empty() && bill.lines.is_empty());
    assert_eq!(bill.owner.charged(), [EntityRef::new(EntityKind::Key, "ab12")]);
    assert_eq!(Owner::of_key("ab12").charged(), bill.owner.charged());
}

#[test]
fn the_text_is_short_and_tells_everyone() {
    let principal = everyone(|kind| if kind == EntityKind::Key { limits() } else { Settings::default() });
    let owner = bill(&Rules::default(), &principal, &demand()).owner;
    let text = owner.encode().unwrap();
    assert!(text.len() < 200 && !text.contains("ab12"), "{text}");
    let read = Owner::decode(&text, "ab12").unwrap();
    assert_eq!(read, owner);
    // Asked again, it has a reservation of its own, by which it is settled.
    let again = bill(&Rules::default(), &principal, &Demand { again: 2, ..demand() }).owner;
    let read_again = Owner::decode(&again.encode().unwrap(), "ab12").unwrap();
    assert_eq!(read_again, again);
    assert_eq!(read_again.reservation("c"), format!("{}~2", owner.reservation("c")));
    assert_eq!((read.account(), read.team_id(), read.user_id()), ("ab12", Some("search"), Some("ann")));
    assert_eq!((read.organization_id(), read.end_user()), (Some("acme"), Some("eve")));
    assert_eq!(read.tags(), ["batch"]);
    let charged: Vec<_> = read.charged().into_iter().map(|of| (of.kind, of.id)).collect();
    let wanted = [
        (EntityKind::Key, "ab12"),
        (EntityKind::Team, "search"),
        (EntityKind::User, "ann"),
        (EntityKind::Organization, "acme"),
        (EntityKind::Member, "search\u{1f}ann"),
        (EntityKind::EndUser, "eve"),
        (EntityKind::Tag, "batch"),
    ];
    assert_eq!(charged, wanted.map(|(kind, id)| (kind, id.to_owned())));
}

#[test]
fn settling_names_the_counters_that_were_charged() {
    let principal = everyone(|_| limits());
    let rules = Rules { user_budget_for_team_keys: true, parallel: Some(9), ..Rules::default() };
    let bill = bill(&rules, &principal, &demand());
    let read = Owner::decode(&bill.owner.encode().unwrap(), "ab12").unwrap();
    let settlement = read.settlement("call-1", &Used { requests: 1, input: 20, output: 5, nanos: 333 });
    assert_eq!(settlement.id, format!("{}/call-1/0", NOW / 60_000));
    assert!(!settlement.stays);
    let mut charged: Vec<_> = bill.required.iter().map(|limited| (&limited.counter, limited.ttl)).collect();
    charged.retain(|(counter, _)| !counter.base.ends_with(":parallel"));
    let mut settled: Vec<_> = settlement.actual.iter().map(|charge| (&charge.counter, charge.ttl)).collect();
    charged.sort();
    settled.sort();
    assert_eq!(settled, charged);
    assert_eq!(charged.len(), 7 * 4);
    let key = |name: &str| {
        let found = amounts(&settlement).into_iter().find(|(counter, _)| counter.starts_with(name));
        found.map(|(_, amount)| amount)
    };
    assert_eq!((key("key:ab12:rpm:"), key("key:ab12:tpm:")), (Some(1), Some(25)));
    assert_eq!((key("key:ab12:budget:"), key("key:ab12:parallel:")), (Some(333), None));
}

#[test]
fn a_failure_stays_counted_as_one_request() {
    let bill = bill(&Rules::default(), &of_key(limits()), &demand());
    let settlement = bill.owner.settlement("c", &Used { requests: 1, ..Used::default() });
    let minute = NOW / 60_000;
    let day = NOW / 86_400_000;
    let midnight = day * 86_400;
    let wanted = [
        (format!("key:ab12:budget:{midnight}"), 0),
        (format!("key:ab12:rpm:{minute}"), 1),
        (format!("key:ab12:tpm:{minute}"), 0),
        (format!("key:ab12:tpd:{day}"), 0),
    ];
    assert_eq!(amounts(&settlement), wanted);
}

#[test]
fn tokens_are_settled_as_they_were_reserved() {
    let settings = Settings { tpm_limit: Some(9), ..Settings::default() };
    for (tokens, wanted) in [(TokenKind::Total, 25), (TokenKind::Input, 20), (TokenKind::Output, 5)] {
        let rules = Rules { tokens, ..Rules::default() };
        let owner = bill(&rules, &of_key(settings.clone()), &demand()).owner;
        let owner = Owner::decode(&owner.encode().unwrap(), "ab12").unwrap();
        let used = Used { requests: 1, input: 20, output: 5, nanos: 0 };
        assert_eq!(owner.settlement("c", &used).actual[0].amount, wanted);
    }
}

#[test]
fn a_rotated_key_goes_on_with_its_first_account() {
    let settings = Settings { account: Some("first".into()), ..limits() };
    let owner = bill(&Rules::default(), &of_key(settings), &demand()).owner;
    for key in ["ab12", "an older hash"] {
        let read = Owner::decode(&owner.encode().unwrap(), key).unwrap();
        assert_eq!(read.charged(), [EntityRef::new(EntityKind::Key, "first")]);
        let settlement = read.settlement("c", &Used::default());
        assert!(settlement.actual.iter().all(|charge| charge.counter.base.starts_with("key:first:")));
    }
}

#[test]
fn somebody_whom_nobody_stored_is_named_all_the_same() {
    let mut key = (*crate::limits::testing::key(Settings::default()).entity).clone();
    key.user_id = Some("ann".into());
    key.organization_id = Some("acme".into());
    let principal = Principal {
        key: Some(Holder::own(Arc::new(key))),
        end_user: Some(("eve".into(), None)),
        tags: vec![("x".into(), None)],
        ..Principal::default()
    };
    let owner = bill(&Rules::default(), &principal, &demand()).owner;
    assert_eq!((owner.user_id(), owner.organization_id()), (Some("ann"), Some("acme")));
    assert_eq!((owner.end_user(), owner.tags()), (Some("eve"), vec!["x".to_owned()]));
    assert_eq!(owner.team_id(), None);
}

#[test]
fn the_master_key_charges_nobody_but_whom_it_names() {
    let principal = Principal { end_user: Some(("eve".into(), None)), ..Principal::default() };
    let owner = bill(&Rules::default(), &principal, &demand()).owner;
    assert_eq!(owner.charged(), [EntityRef::new(EntityKind::EndUser, "eve")]);
}

#[test]
fn uses_of_models_are_charged_where_they_have_a_budget() {
    let settings: Settings = serde_json::from_value(serde_json::json!({
        "model_max_budget": {"gpt-4o": {"limit_nanos": 5}}, "model_rpm_limit": {"gpt-*": 5},
    }))
    .unwrap();
    let owner = bill(&Rules::default(), &of_key(settings), &demand()).owner;
    let read = Owner::decode(&owner.encode().unwrap(), "ab12").unwrap();
    let wanted = [("ab12", EntityKind::Key), ("ab12\u{1f}gpt-4o", EntityKind::KeyModel)];
    assert_eq!(read.charged(), wanted.map(|(id, kind)| EntityRef::new(kind, id)));
    let counters = amounts(&read.settlement("c", &Used { requests: 1, nanos: 4, ..Used::default() }));
    assert_eq!(counters[0], ("key_model:ab12\u{1f}gpt-4o:budget:0".to_owned(), 4));
    assert_eq!(counters[1].0, format!("key_model:ab12\u{1f}gpt-*:rpm:{}", NOW / 60_000));
}

#[test]
fn what_others_wrote_is_not_understood() {
    for text in [
        "",
        "null",
        "{}",
        "[]",
        "[2,1,0,[]]",
        "[1,1,3,[]]",
        "[1,-1,0,[]]",
        "[1,1,0,{}]",
        r#"[1,1,0,[["z","a"]]]"#,
        r#"[1,1,0,[["t"]]]"#,
        r#"[1,1,0,[["t",5]]]"#,
        r#"[1,1,0,[["t","a",256]]]"#,
        r#"[1,1,0,[["t","a",1,2]]]"#,
        r#"[1,1,0,[["t","a",1,2,3,4]]]"#,
        "[1,1,0,[],256]",
        "[1,1,0,[],-1]",
        "[1,1,0,[],1,0]",
    ] {
        assert_eq!(Owner::decode(text, "k"), None, "{text}");
    }
    let many = format!("[1,1,0,[{}]]", vec![r#"["g","a"]"#; MAX_PARTS + 1].join(","));
    assert_eq!(Owner::decode(&many, "k"), None);
}

#[test]
fn tags_are_bounded() {
    let tags = (0..500).map(|at| (format!("tag-{at}"), None)).collect();
    let principal = Principal { tags, ..of_key(Settings::default()) };
    let owner = bill(&Rules::default(), &principal, &demand()).owner;
    assert_eq!(owner.tags().len(), MAX_TAGS);
    assert!(Owner::decode(&owner.encode().unwrap(), "ab12").is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_owner_is_read_back(
        ids in prop::collection::vec("\\PC{1,12}|[\\x00-\\x1e\"\\\\]{1,4}", 6),
        tags in prop::collection::vec(".{0,8}", 0..5),
        which in prop::collection::vec(any::<bool>(), 6),
        rotated in any::<bool>(),
        kind in prop::sample::select(&[TokenKind::Total, TokenKind::Input, TokenKind::Output][..]),
    ) {
        let settings = |at: usize| if which[at] { limits() } else { Settings::default() };
        let mut key = Entity::new(EntityKind::Key, ids[0].clone());
        key.settings = Settings { account: rotated.then(|| ids[5].clone()), ..settings(0) };
        let of = |kind, at: usize| which[at].then(|| holder(kind, &ids[at], settings(5 - at)));
        let principal = Principal {
            key: Some(Holder::own(Arc::new(key))),
            team: of(EntityKind::Team, 1),
            user: of(EntityKind::User, 2),
            member: (which[1] && which[2]).then(|| person(EntityKind::Member, &member_id(&ids[1], &ids[2]))),
            organization: of(EntityKind::Organization, 3),
            end_user: which[4].then(|| (ids[4].clone(), of(EntityKind::EndUser, 4))),
            end_user_budget: None,
            tags: tags.iter().map(|tag| (tag.clone(), which[5].then(|| holder(EntityKind::Tag, tag, limits())))).collect(),
        };
        let rules = Rules { tokens: kind, ..Rules::default() };
        let bill = bill(&rules, &principal, &demand());
        let Some(text) = bill.owner.encode() else {
            prop_assert!(bill.required.is_empty());
            return Ok(());
        };
        prop_assert!(text.is_ascii(), "{}", text);
        let read = Owner::decode(&text, &ids[0]).unwrap();
        prop_assert_eq!(&read, &bill.owner);
        prop_assert_eq!(read.charged(), bill.owner.charged());
        // One counter, one charge: the store must not be asked to add twice.
        let used = Used { requests: 1, input: 1, output: 1, nanos: 1 };
        let actual = read.settlement("c", &used).actual;
        let mut counters: Vec<_> = actual.iter().map(|charge| &charge.counter).collect();
        counters.sort();
        counters.dedup();
        prop_assert_eq!(counters.len(), actual.len());
    }
}
