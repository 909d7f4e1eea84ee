//! What an answer tells the client of its limits (`x-ratelimit-*`).

use std::rc::Rc;

/// Names and values of headers.
type Headers = [(String, String)];

/// The headers, and which of them have other values for this request: most are the same for all of a lease, and a copy of
/// thirty texts for each request took longer than its decision. Cheap to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown(Option<Rc<Parts>>);

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    common: Rc<Headers>,
    /// By place in `common`.
    own: Vec<(usize, String)>,
}

impl Shown {
    /// Those of a lease, where this request's own values stand at these places.
    #[must_use]
    pub fn of_lease(common: &Rc<Headers>, own: Vec<(usize, String)>) -> Self {
        Self((!common.is_empty()).then(|| Rc::new(Parts { common: Rc::clone(common), own })))
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let (common, own) =
            self.0.as_deref().map_or((&[][..], &[][..]), |parts| (&*parts.common, parts.own.as_slice()));
        common.iter().enumerate().map(|(place, (name, value))| {
            let own = own.iter().find(|(at, _)| *at == place);
            (name.as_str(), own.map_or(value, |(_, value)| value).as_str())
        })
    }
}

impl From<Vec<(String, String)>> for Shown {
    fn from(headers: Vec<(String, String)>) -> Self {
        Self::of_lease(&headers.into(), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_values_stand_in_their_places() {
        let common: Vec<(String, String)> =
            ["a", "b", "c"].map(|name| (name.to_owned(), format!("{name}0"))).into();
        let all =
            |shown: &Shown| shown.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        assert_eq!(all(&Shown::from(common.clone())), ["a=a0", "b=b0", "c=c0"]);
        // A place that there is not is nobody's.
        let own = vec![(1, "mine".to_owned()), (7, "no".to_owned())];
        let shown = Shown::of_lease(&common.into(), own);
        assert_eq!(all(&shown), ["a=a0", "b=mine", "c=c0"]);
        assert_eq!(shown.clone(), shown);
        assert!(all(&Shown::default()).is_empty());
        assert_eq!(Shown::from(Vec::new()), Shown::default());
    }
}
