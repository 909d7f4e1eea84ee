use super::names::Target;
use super::{Deployment, Group};

/// Entries that grant every model, as an empty list does. A team's models are all until teams have a list of their own.
const ALL: [&str; 3] = ["all-proxy-models", "all-team-models", "*"];
/// Says that nothing is granted by default: it grants nothing itself.
const NOTHING: &str = "no-default-models";

/// Models that a key may use: LiteLLM's `models` list.
///
/// An empty list allows all. Entries are model groups (or aliases), wildcards over the name (`openai/*`), or
/// `all-proxy-models` and `no-default-models`.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// `None`: everything.
    entries: Option<&'a [String]>,
}

impl<'a> Access<'a> {
    /// The master key's access.
    #[must_use]
    pub fn everything() -> Self {
        Self { entries: None }
    }

    /// Access by a key's `models` list.
    #[must_use]
    pub fn of(models: &'a [String]) -> Self {
        let all = models.is_empty() || models.iter().any(|m| ALL.contains(&m.as_str()));
        Self { entries: (!all).then_some(models) }
    }

    /// May it use the model `name`? `group` is the group of that name, if there is one: `openai/*` then also
    /// grants a group all of whose deployments are OpenAI's, whatever the group is called, and an access group one that
    /// has a deployment in it.
    #[must_use]
    pub fn allows(&self, name: &str, group: Option<&Group>) -> bool {
        self.grant(name, group).any()
    }

    fn grant(&self, name: &str, group: Option<&Group>) -> Grant {
        let Some(entries) = self.entries else { return Grant::All };
        let named = entries.iter().filter(|e| e.as_str() != NOTHING).any(|entry| {
            if !entry.contains('*') {
                return entry == name;
            }
            matches(entry, name) || group.is_some_and(|g| group_matches(entry, g))
        });
        match named {
            true => Grant::All,
            false if group.is_some_and(|g| g.deployments.iter().any(|d| self.is_in_group(d))) => {
                Grant::AccessGroups
            }
            false => Grant::Nothing,
        }
    }

    /// What it may use of a target that was asked for as `asked`: the list may name the alias or the group behind it.
    pub(super) fn grants(&self, asked: &str, target: &Target<'_>) -> Grant {
        // An id speaks of its group: the right to that is what counts.
        let name = if target.only.is_some() { target.group.name.as_str() } else { target.name };
        let grant = self.grant(name, Some(target.group));
        let by_alias = || target.only.is_none() && asked != name && self.grant(asked, None).any();
        if grant != Grant::All && by_alias() { Grant::All } else { grant }
    }

    /// Is the deployment in an access group of the list?
    pub(super) fn is_in_group(&self, deployment: &Deployment) -> bool {
        let Some(entries) = self.entries else { return true };
        deployment.access_groups.iter().any(|group| group != NOTHING && entries.contains(group))
    }
}

/// How much of a group a key may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
