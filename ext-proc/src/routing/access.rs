use super::names::Target;
use super::{Deployment, Group};

/// Entries that grant every model, as an empty list does. `all-team-models` too: the team's own list is asked as well.
const ALL: [&str; 3] = ["all-proxy-models", "all-team-models", "*"];
/// Says that nothing is granted by default: it grants nothing itself.
const NOTHING: &str = "no-default-models";

/// Models that a caller may use: LiteLLM's `models` lists of the key, its team and whoever else has one. All of them must
/// grant a model.
///
/// An empty list allows all. Entries are model groups (or aliases), wildcards over the name (`openai/*`), access groups,
/// or `all-proxy-models` and `no-default-models`.
#[derive(Debug, Clone, Default)]
pub struct Access<'a> {
    /// Those that do not grant everything.
    lists: Vec<&'a [String]>,
}

impl<'a> Access<'a> {
    /// The master key's access.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Access by one `models` list.
    #[must_use]
    pub fn of(models: &'a [String]) -> Self {
        Self::of_all([models])
    }

    /// Access by several lists, each of which must grant.
    #[must_use]
    pub fn of_all(lists: impl IntoIterator<Item = &'a [String]>) -> Self {
        let all = |models: &[String]| models.is_empty() || models.iter().any(|m| ALL.contains(&m.as_str()));
        Self { lists: lists.into_iter().filter(|models| !all(models)).collect() }
    }

    /// May it use the model `name`? `group` is the group of that name, if there is one: `openai/*` then also
    /// grants a group all of whose deployments are OpenAI's, whatever the group is called, and an access group one that
    /// has a deployment in it.
    #[must_use]
    pub fn allows(&self, name: &str, group: Option<&Group>) -> bool {
        self.lists.iter().all(|list| grant(list, name, group).any())
    }

    /// What it may use of a target that was asked for as `asked`: a list may name the alias or the group behind it.
    pub(super) fn grants(&self, asked: &str, target: &Target<'_>) -> Grant {
        self.lists.iter().map(|list| grant_of(list, asked, target)).min().unwrap_or(Grant::All)
    }

    /// May it use this deployment of a target of which it may use some?
    pub(super) fn permits(&self, asked: &str, target: &Target<'_>, deployment: &Deployment) -> bool {
        self.lists
            .iter()
            .all(|list| is_in_group(list, deployment) || grant_of(list, asked, target) == Grant::All)
    }
}

fn grant_of(list: &[String], asked: &str, target: &Target<'_>) -> Grant {
    // An id speaks of its group: the right to that is what counts.
    let name = if target.only.is_some() { target.group.name.as_str() } else { target.name };
    let granted = grant(list, name, Some(target.group));
    let by_alias = || target.only.is_none() && asked != name && grant(list, asked, None).any();
    if granted != Grant::All && by_alias() { Grant::All } else { granted }
}

fn grant(list: &[String], name: &str, group: Option<&Group>) -> Grant {
    let named = list.iter().filter(|e| e.as_str() != NOTHING).any(|entry| {
        if !entry.contains('*') {
            return entry == name;
        }
        matches(entry, name) || group.is_some_and(|g| group_matches(entry, g))
    });
    match named {
        true => Grant::All,
        false if group.is_some_and(|g| g.deployments.iter().any(|d| is_in_group(list, d))) => {
            Grant::AccessGroups
        }
        false => Grant::Nothing,
    }
}

/// Is the deployment in an access group of the list?
fn is_in_group(list: &[String], deployment: &Deployment) -> bool {
    deployment.access_groups.iter().any(|group| group != NOTHING && list.contains(group))
}

/// How much of a group a key may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grant {
    Nothing,
    /// Only deployments that are in one of the key's access groups.
    AccessGroups,
    All,
}

impl Grant {
    pub(super) fn any(self) -> bool {
        self != Self::Nothing
    }
}

/// Every deployment, so that a mixed group does not leak another provider to the key. A wildcard group is granted by the
/// names that it serves alone.
fn group_matches(pattern: &str, group: &Group) -> bool {
    !group.name.contains('*')
        && !group.deployments.is_empty()
        && group
            .deployments
            .iter()
            .all(|d| matches(pattern, &format!("{}/{}", d.provider_name, d.meta.model)))
}

/// `*` stands for any text, everything else for itself.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::tests::{deployment, group};

    fn allows(entries: &[&str], name: &str) -> bool {
        let entries: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
        Access::of(&entries).allows(name, None)
    }

    #[test]
    fn empty_list_and_all_proxy_models_allow_everything() {
        assert!(allows(&[], "gpt-4o"));
        assert!(allows(&["all-proxy-models"], "gpt-4o"));
        assert!(allows(&["other", "*"], "gpt-4o"));
    }

    #[test]
    fn every_list_must_grant() {
        let [key, team] = [&["a", "b"], &["b", "c"]].map(|list| list.map(str::to_owned));
        let access = Access::of_all([&key[..], &team[..], &[]]);
        assert!(access.allows("b", None));
        assert!(!access.allows("a", None) && !access.allows("c", None));
    }

    #[test]
    fn each_list_grants_a_deployment_by_name_or_by_access_group() {
        let with = |id: &str, groups: &[&str]| {
            let mut out = deployment(id, "chat");
            out.access_groups = groups.iter().map(|g| (*g).to_owned()).collect();
            out
        };
        let group = std::sync::Arc::new(group(
            "chat",
            vec![with("a", &["beta"]), with("b", &["eu"]), with("c", &["beta", "eu"])],
        ));
        let [beta, eu, named] = ["beta", "eu", "chat"].map(|entry| vec![entry.to_owned()]);
        let permitted = |lists: &[&Vec<String>]| {
            let access = Access::of_all(lists.iter().map(|list| list.as_slice()));
            let target = Target::group(&group);
            let ids = group.deployments.iter().filter(|d| access.permits("chat", &target, d));
            (access.grants("chat", &target), ids.map(|d| d.meta.id.clone()).collect::<Vec<_>>())
        };
        assert_eq!(permitted(&[&named]).1, ["a", "b", "c"]);
        assert_eq!(permitted(&[&named, &beta]), (Grant::AccessGroups, vec!["a".to_owned(), "c".to_owned()]));
        assert_eq!(permitted(&[&eu, &beta]).1, ["c"]);
    }

    #[test]
    fn names_are_exact() {
        assert!(allows(&["gpt-4o"], "gpt-4o"));
        assert!(!allows(&["gpt-4o"], "gpt-4o-mini"));
        assert!(!allows(&["gpt-4o"], "GPT-4o"));
    }

    #[test]
    fn no_default_models_grants_nothing() {
        assert!(!allows(&["no-default-models"], "gpt-4o"));
        assert!(!allows(&["no-default-models"], "no-default-models"));
        assert!(allows(&["no-default-models", "gpt-4o"], "gpt-4o"));
        assert!(allows(&["all-team-models"], "gpt-4o"));
    }

    #[test]
    fn wildcards_match_the_name() {
        assert!(allows(&["openai/*"], "openai/gpt-4o"));
        assert!(!allows(&["openai/*"], "azure/gpt-4o"));
        assert!(!allows(&["openai/*"], "xopenai/gpt-4o"));
        assert!(allows(&["gpt-*-mini"], "gpt-4o-mini"));
        assert!(!allows(&["gpt-*-mini"], "gpt-4o-minimal"));
        assert!(!allows(&["ab*ba"], "aba"));
        assert!(allows(&["*4*"], "gpt-4o"));
    }

    #[test]
    fn provider_wildcards_grant_groups_wholly_of_that_provider() {
        let entries = vec!["openai/*".to_owned()];
        let access = Access::of(&entries);
        let own = group("chat", vec![deployment("a", "chat"), deployment("b", "chat")]);
        assert!(access.allows("chat", Some(&own)));
        let mut foreign = deployment("c", "chat");
        foreign.provider_name = "azure";
        let mixed = group("chat", vec![deployment("a", "chat"), foreign]);
        assert!(!access.allows("chat", Some(&mixed)));
        assert!(!access.allows("chat", Some(&group("chat", vec![]))));
    }
}
