//! The vocabulary of the key table: what a key is called, what it takes, whether Attaché acts on it.

use crate::prices::{self, SUPPORTS};

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Text that is never shown.
    Secret,
    Bool,
    /// A whole number, 0 included.
    Count,
    /// A whole number above 0.
    Positive,
    Port,
    /// Above 0; fractions allowed.
    Seconds,
    /// 0 included: 0 switches the thing off.
    SecondsOrZero,
    /// A number above 0; fractions allowed.
    Amount,
    /// 0 included.
    Fraction,
    /// Dollars, 0 included.
    Price,
    /// Any price field of LiteLLM's: the key stands for all names that [`prices::is_price`] takes.
    Rates,
    /// A capability of LiteLLM's: the key stands for all names that begin so.
    Supports,
    /// Text or a map that is never shown.
    SecretJson,
    /// Discounts by provider.
    Discounts,
    /// Margins by provider.
    Margins,
    TextList,
    /// One of these names.
    Choice(&'static [&'static str]),
    /// A list of such names. The second list: names of LiteLLM's that Attaché does not act on.
    Choices(&'static [&'static str], &'static [&'static str]),
    /// `30s`, `15m`, `1h`, `7d`, `2w`, `1mo` (30 days); becomes whole seconds.
    Period,
    /// The same or `off`, which becomes 0.
    PeriodOrOff,
    /// The same as `Period`, kept as text: budget windows of days, weeks and months follow the calendar.
    Duration,
    /// `HH:MM`.
    TimeOfDay,
    /// One of these numbers.
    Status(&'static [u16]),
    /// A map of anything, for the admin API to read.
    Json,
    TextMap,
    SecretMap,
    /// Hosts and ports: `host:port`, `[host, port]` or `{host, port}`, or JSON of that as text; become pairs.
    Nodes,
    /// `[{group: [group, ...]}]`.
    Fallbacks,
    /// `{alias: group}` or `{alias: {model: group, hidden: true}}`.
    Aliases,
    Section(&'static Section),
    /// A map of names that the operator chooses to such sections.
    SectionMap(&'static Section),
    /// A list of these.
    Sections(&'static Section),
}

impl Kind {
    /// As the reference and the error texts call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text | Self::Secret => "text",
            Self::Bool | Self::Supports => "true or false",
            Self::Count => "a whole number",
            Self::Positive => "a whole number above 0",
            Self::Port => "a port number",
            Self::Seconds => "seconds above 0",
            Self::SecondsOrZero => "seconds, 0 or more",
            Self::Amount => "a number above 0",
            Self::Fraction => "a number, 0 or more",
            Self::Price => "dollars, 0 or more",
            Self::Rates => "dollars per unit",
            Self::SecretJson => "text or a map",
            Self::Discounts => "a map `{provider: share}`",
            Self::Margins => "a map `{provider: share}` or `{provider: {percentage, fixed_amount}}`",
            Self::TextList => "a list of text",
            Self::Choice(_) => "one of the names below",
            Self::Choices(..) => "a list of the names below",
            Self::Period | Self::Duration => "a duration such as `30s`, `15m`, `1h`, `1d` or `1mo`",
            Self::PeriodOrOff => "a duration such as `30d`, or `off`",
            Self::TimeOfDay => "a time of day such as `06:00`",
            Self::Status(_) => "one of the numbers below",
            Self::Json => "a map",
            Self::TextMap | Self::SecretMap => "a map of text",
            Self::Nodes => "a list of `host:port`",
            Self::Fallbacks => "a list of `{group: [group, ...]}`",
            Self::Aliases => "a map `{alias: group}` or `{alias: {model, hidden}}`",
            Self::Section(_) => "a section of keys",
            Self::SectionMap(_) => "a map of sections",
            Self::Sections(_) => "a list of entries",
        }
    }
}

/// A key that Attaché acts on.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    /// As shown in the reference; the types hold the real ones.
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
}

impl Key {
    fn stands_for_many(&self) -> bool {
        matches!(self.kind, Kind::Rates | Kind::Supports)
    }
}

/// A map of keys.
#[derive(Debug)]
pub(super) struct Section {
    /// As the reference calls it.
    pub(super) title: &'static str,
    pub(super) keys: &'static [Key],
    /// Keys that LiteLLM knows and Attaché does not act on, separated by white space. `*` stands for anything at
    /// either end.
    pub(super) known: &'static str,
}

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        let rates = || self.rates().filter(|_| prices::is_charged(name));
        let supports = || {
            let key = self.keys.iter().find(|key| matches!(key.kind, Kind::Supports));
            key.filter(|_| name.starts_with(SUPPORTS))
        };
        let own = self.keys.iter().find(|key| key.name == name && !key.stands_for_many());
        own.or_else(rates).or_else(supports)
    }

    /// The key that stands for prices, where there may be some.
    fn rates(&self) -> Option<&'static Key> {
        self.keys.iter().find(|key| matches!(key.kind, Kind::Rates))
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.known().any(|pattern| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
            (Some(middle), Some(_)) => name.contains(middle.trim_end_matches('*')),
            (Some(end), None) => name.ends_with(end),
            (None, Some(start)) => name.starts_with(start),
            (None, None) => pattern == name,
        })
    }

    /// The names in `known`.
    pub(super) fn known(&self) -> impl Iterator<Item = &'static str> {
        self.known.split_whitespace()
    }

    /// Every name, for suggestions.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        let prices = self.rates().into_iter().flat_map(|_| prices::field_names());
        let keys = self.keys.iter().filter(|key| !key.stands_for_many()).map(|key| key.name);
        keys.chain(self.known().filter(|name| !name.contains('*'))).chain(prices)
    }
}

/// An optional key.
pub(super) const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, required: false, default, doc }
}

/// A key that must be there.
pub(super) const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: true, default: "required", doc }
}
