//! What a caller may use, and what is left of it: rate limits and budgets of keys, teams, users, members, organisations,
//! end users and tags. Everything here is free of I/O.

mod rules;

pub use rules::{Rules, TokenKind};
