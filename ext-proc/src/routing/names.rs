//! From the name in a request to a group.

use std::sync::Arc;

use attache_llm::price::Price;
use attache_llm::wildcard;

use super::{Deployment, Group, Snapshot};

/// What a model name leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) group: &'a Arc<Group>,
    /// The name was this deployment's id: no other of the group serves.
    pub(super) only: Option<&'a Arc<Deployment>>,
    /// The name after aliases: what the stars of a wildcard group stand for.
    pub(super) name: &'a str,
}

impl<'a> Target<'a> {
    pub(super) fn group(group: &'a Arc<Group>) -> Self {
        Self { group, only: None, name: &group.name }
    }

    /// Provider's model name, where the deployment's own is a pattern.
    pub(super) fn model(&self, deployment: &Deployment) -> Option<String> {
        let template = &deployment.meta.model;
        if !wildcard::is_pattern(template) {
            return None;
        }
        wildcard::substitute(template, &self.group.name, self.name)
    }

    /// Is it known what the deployment costs?
    pub(super) fn is_priced(&self, snapshot: &Snapshot, deployment: &Deployment) -> bool {
        deployment.meta.price.is_some()
            || snapshot.price(deployment, self.model(deployment).as_deref()).is_some()
    }

    /// May a request go here as far as prices are concerned: is one known, or none needed?
    pub(super) fn is_payable(&self, snapshot: &Snapshot) -> bool {
        let mut deployments = self.group.deployments.iter();
        !snapshot.block_unpriced || deployments.any(|deployment| self.is_priced(snapshot, deployment))
    }

    /// One attempt at each in a chain: groups are told apart by name, single deployments by their id.
    pub(super) fn identity(&self) -> &'a str {
        self.only.map_or(self.group.name.as_str(), |deployment| deployment.meta.id.as_str())
    }
}

/// Alias, then group, then deployment id, then the most specific wildcard group. A pattern itself is no model.
pub(super) fn find<'a>(snapshot: &'a Snapshot, name: &'a str) -> Option<Target<'a>> {
    let name = snapshot.aliases.get(name).map_or(name, String::as_str);
    if let Some(group) = snapshot.groups.get(name).filter(|_| !wildcard::is_pattern(name)) {
        return Some(Target { group, only: None, name });
    }
    if let Some(deployment) = snapshot.deployments.get(name).filter(|d| !wildcard::is_pattern(&d.meta.model))
    {
        let group = snapshot.groups.get(&deployment.meta.group)?;
        return Some(Target { group, only: Some(deployment), name });
    }
    let group = snapshot.wildcards.iter().find(|group| wildcard::matches(&group.name, name))?;
    (!wildcard::is_pattern(name)).then_some(Target { group, only: None, name })
}

/// What a model of the configuration costs: the price of the group's first deployment. `None`: there is no such model;
/// without a price inside: nobody knows it.
#[must_use]
pub fn price_of(snapshot: &Snapshot, name: &str) -> Option<Option<Price>> {
    let target = find(snapshot, name)?;
    let deployment = target.only.or_else(|| target.group.deployments.first())?;
    Some(snapshot.price(deployment, target.model(deployment).as_deref()))
}
