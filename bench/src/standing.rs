//! Standing scripts of upstreams: for requests that bring none, such as health probes and SDKs.
//!
//! ```text
//! POST   /_fake/script {"name": "one", "script": "status:500", "times": 3}
//! POST   /_fake/models?name=one&status=401        only for GET /one/v1/models
//! DELETE /_fake/script?name=one                   without a name: all of them
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::script::Script;

/// Upstreams with a standing script at most.
const CAPACITY: usize = 10_000;

/// An order to an upstream.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The upstream, or `UPSTREAM/models` for its list of models alone.
    pub name: String,
    /// Directives.
    pub script: String,
    /// For so many requests; without it until it is deleted.
    pub times: Option<u64>,
}

/// Orders in force.
#[derive(Debug, Default)]
pub struct Standing(Mutex<HashMap<String, (Script, Option<u64>)>>);

impl Standing {
    /// Puts an order into force, in place of an earlier one of the same name.
    ///
    /// # Errors
    /// Names the directive that cannot be read; or there are too many orders.
    pub fn set(&self, order: &Order) -> Result<(), String> {
        let script = Script::default().with(&order.script)?;
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.len() >= CAPACITY && !orders.contains_key(&order.name) {
            return Err("too many standing scripts".into());
        }
        orders.insert(order.name.clone(), (script, order.times));
        Ok(())
    }

    /// Ends an order, or all of them.
    pub fn remove(&self, name: Option<&str>) {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match name {
            Some(name) => drop(orders.remove(name)),
            None => orders.clear(),
        }
    }

    /// The script for one request to an upstream, which uses up one of its times.
    #[must_use]
    pub fn take(&self, name: &str, models: bool) -> Option<Script> {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = models.then(|| format!("{name}/models")).filter(|own| orders.contains_key(own));
        let name = own.as_deref().unwrap_or(name);
        let (script, times) = orders.get_mut(name)?;
        match times {
            Some(0) => None,
            Some(left) => {
                *left -= 1;
                Some(script.clone())
            }
            None => Some(script.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(name: &str, script: &str, times: Option<u64>) -> Order {
        Order { name: name.into(), script: script.into(), times }
    }

    fn status(standing: &Standing, name: &str, models: bool) -> Option<u16> {
        standing.take(name, models).and_then(|script| script.status)
    }

    #[test]
    fn orders_hold_until_they_are_used_up_or_removed() {
        let standing = Standing::default();
        standing.set(&order("one", "status:500", Some(2))).unwrap();
        standing.set(&order("two", "status:503", None)).unwrap();
        standing.set(&order("two/models", "status:401", None)).unwrap();
        assert_eq!([(); 3].map(|()| status(&standing, "one", false)), [Some(500), Some(500), None]);
        assert_eq!(status(&standing, "two", false), Some(503));
        assert_eq!(status(&standing, "two", true), Some(401));
        standing.remove(Some("two/models"));
        assert_eq!(status(&standing, "two", true), Some(503));
        standing.remove(None);
        assert_eq!(status(&standing, "two", false), None);
        assert!(standing.set(&order("one", "statsu:1", None)).is_err());
    }
}
