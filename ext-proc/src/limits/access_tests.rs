use std::sync::Arc;

use super::*;
use crate::entity::{Holder, Settings};
use crate::limits::testing::{NOW, everyone, holder, of_key};

fn models(names: &[&str]) -> Settings {
    Settings { models: names.iter().map(|name| (*name).to_owned()).collect(), ..Settings::default() }
}

fn kinds(principal: &Principal) -> Vec<EntityKind> {
    lists(principal).iter().map(|list| list.kind).collect()
}

#[test]
fn every_list_but_the_owners_holds_for_keys_of_a_team() {
    use EntityKind::{EndUser, Key, Member, Organization, Team, User};
    let team_key = everyone(|_| models(&["a"]));
    assert_eq!(kinds(&team_key), [Key, Team, Member, Organization, EndUser]);
    assert_eq!((lists(&team_key)[1].id, lists(&team_key)[1].models), ("search", &["a".to_owned()][..]));
    let personal =
        Principal { user: Some(holder(User, "ann", models(&["a"]))), ..of_key(Settings::default()) };
    assert_eq!(kinds(&personal), [User], "empty lists allow everything");
    assert!(lists(&Principal { key: None, ..team_key }).is_empty(), "the master key may use everything");
}

#[test]
fn a_keys_alias_comes_before_its_teams() {
    let aliases = |pairs: &[(&str, &str)]| Settings {
        aliases: pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect(),
        ..Settings::default()
    };
    let principal = everyone(|kind| match kind {
        EntityKind::Key => aliases(&[("mine", "key's")]),
        EntityKind::Team => aliases(&[("mine", "team's"), ("fast", "mini")]),
        _ => Settings::default(),
    });
    assert_eq!(rename(&principal, "mine"), Some("key's"));
    assert_eq!(rename(&principal, "fast"), Some("mini"));
    assert_eq!(rename(&principal, "gpt"), None);
    assert_eq!(rename(&Principal::default(), "mine"), None);
}

fn with_key(change: impl Fn(&mut Entity)) -> Principal {
    let mut entity = (*of_key(Settings::default()).key.unwrap().entity).clone();
    change(&mut entity);
    Principal { key: Some(Holder::own(Arc::new(entity))), ..Principal::default() }
}

#[test]
fn blocked_and_expired_keys_stay_out() {
    assert_eq!(check(&with_key(|_| {}), NOW), Ok(()));
    assert_eq!(check(&with_key(|key| key.blocked = true), NOW), Err(ApiError::blocked_key()));
    let expired = check(&with_key(|key| key.expires_ms = Some(NOW)), NOW).unwrap_err();
    assert_eq!((expired.status, &*expired.kind), (401, "expired_key"));
    assert_eq!(check(&with_key(|key| key.expires_ms = Some(NOW + 1)), NOW), Ok(()));
}

#[test]
fn whoever_is_blocked_blocks_the_request() {
    let blocked = |mut holder: Holder| {
        Arc::make_mut(&mut holder.entity).blocked = true;
        holder
    };
    type Block = fn(&mut Principal) -> &mut Option<Holder>;
    let cases: [(Block, &str); 5] = [
        (|p| &mut p.team, "Team=search"),
        (|p| &mut p.user, "User=ann"),
        (|p| &mut p.member, "TeamMember=search:ann"),
        (|p| &mut p.organization, "Organization=acme"),
        (|p| &mut p.end_user.as_mut().unwrap().1, "End User=eve"),
    ];
    for (pick, wanted) in cases {
        let mut principal = everyone(|_| Settings::default());
        assert_eq!(check(&principal, NOW), Ok(()));
        let holder = pick(&mut principal);
        *holder = holder.take().map(blocked);
        let error = check(&principal, NOW).unwrap_err();
        assert_eq!((error.status, &*error.kind), (401, "auth_error"));
        assert!(error.message.contains(wanted), "{}", error.message);
        principal.key = None;
        assert_eq!(check(&principal, NOW), Ok(()), "the master key comes in");
    }
}

#[test]
fn the_end_user_may_be_mandatory() {
    let rules = Rules { require_user: true, ..Rules::default() };
    let error = require_user(&rules, &of_key(Settings::default())).unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (400, Some("user")));
    assert_eq!(require_user(&rules, &everyone(|_| Settings::default())), Ok(()));
    assert_eq!(require_user(&rules, &Principal::default()), Ok(()));
    assert_eq!(require_user(&Rules::default(), &of_key(Settings::default())), Ok(()));
}
