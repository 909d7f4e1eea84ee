//! What a caller may use, and what is left of it: rate limits and budgets of keys, teams, users, members, organisations,
//! end users and tags. Everything here is free of I/O.
//!
//! A decision asks [`check`], [`rename`] and [`lists`], then [`bill`]s the request: [`Bill::required`] goes to
//! [`crate::store::Counters::place`], whose answer becomes [`Bill::refusal`], [`Bill::seeds`] or [`Bill::headers`]. The
//! [`Owner`] travels with the request and settles it.

mod access;
mod bill;
mod case;
mod drift;
mod headers;
mod order;
mod owner;
mod period;
mod refusal;
mod rules;
#[cfg(test)]
mod testing;
mod window;

use std::time::Duration;

pub use access::{List, check, lists, rename, require_user};
pub use bill::{Bill, Demand, Line, Question, bill};
pub use case::cheaper;
pub use drift::{Since, Tally};
pub use order::Dimension;
pub use owner::{Owner, Used};
pub use period::{Period, Unit, parse_duration};
pub use rules::{Rules, TokenKind, time_zone};
pub use window::Window;

/// How long a minute's counter is kept: its own minute and the one in which late answers settle.
const MINUTE_TTL: Duration = Duration::from_secs(120);
/// As [`MINUTE_TTL`], of a day.
const DAY_TTL: Duration = Duration::from_secs(90_000);
