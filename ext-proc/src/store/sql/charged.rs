//! Whom a row of the ledger is charged to, as column `charged` has it: with the row's other columns it tells exactly to
//! whose spend and use the row was added, so that both can be computed again.
//!
//! ```text
//! kutomcgp;key_model=<0x1f>gpt-4o
//! ```
//!
//! A letter for each that follows from the row's own columns: `k` key, `u` user, `t` team, `o` organization, `m` the user
//! in the team, `c` customer (end user), `g` every tag, `p` the whole gateway. Then `kind=id` for the others: a key whose
//! use goes on under the hash that it was rotated from, a use of one model. An id that begins with the separator of two
//! parts has the row's own account, team or user as its first part. `;` and `%` in ids are `%3B` and `%25`.

use std::borrow::Cow;

use crate::entity::{EntityKind, SEPARATOR, member_id};

/// Id of [`EntityKind::Proxy`].
const PROXY: &str = "proxy";

/// One of those that a row is charged to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Charged<'a> {
    pub(super) kind: EntityKind,
    pub(super) id: Cow<'a, str>,
}

/// Columns of a row from which whom it is charged to follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whom<'a, 't> {
    pub(super) key: &'a str,
    pub(super) user_id: Option<&'a str>,
    pub(super) team_id: Option<&'a str>,
    pub(super) organization_id: Option<&'a str>,
    pub(super) end_user: Option<&'a str>,
    pub(super) tags: &'t [Cow<'a, str>],
}

impl<'a> Whom<'a, '_> {
    /// The one entity that a letter stands for; `None` for `g`, which stands for any number.
    fn of_letter(&self, letter: char) -> Option<Charged<'a>> {
        let of = |kind, id: Option<&'a str>| Some(Charged { kind, id: Cow::Borrowed(id?) });
        match letter {
            'k' => of(EntityKind::Key, Some(self.key)),
            'u' => of(EntityKind::User, self.user_id),
            't' => of(EntityKind::Team, self.team_id),
            'o' => of(EntityKind::Organization, self.organization_id),
            'm' => {
                let id = Cow::Owned(member_id(self.team_id?, self.user_id?));
                Some(Charged { kind: EntityKind::Member, id })
            }
            'c' => of(EntityKind::EndUser, self.end_user),
            'p' => of(EntityKind::Proxy, Some(PROXY)),
            _ => None,
        }
    }

    fn letter_of(&self, charged: &Charged<'_>) -> Option<char> {
        let letter = match charged.kind {
            EntityKind::Key => 'k',
            EntityKind::User => 'u',
            EntityKind::Team => 't',
            EntityKind::Organization => 'o',
            EntityKind::Member => 'm',
            EntityKind::EndUser => 'c',
            EntityKind::Proxy => 'p',
            _ => return None,
        };
        self.of_letter(letter).is_some_and(|own| own.id == charged.id).then_some(letter)
    }

    /// The first part of an id of two parts, where it is the row's own.
    fn first_part(&self, kind: EntityKind, account: &'a str) -> Option<&'a str> {
        match kind {
            EntityKind::KeyModel => Some(account),
            EntityKind::TeamModel => self.team_id,
            EntityKind::UserModel => self.user_id,
            _ => None,
        }
    }
}

/// The text of column `charged`. The order of what is charged is not kept.
pub(super) fn encode(whom: &Whom<'_, '_>, charged: &[Charged<'_>]) -> String {
    let account = account(whom, charged);
    let is_tag = |charged: &&Charged<'_>| charged.kind == EntityKind::Tag;
    let names = |tag: &Cow<'_, str>| charged.iter().filter(is_tag).any(|charged| charged.id == *tag);
    let all_tags = !whom.tags.is_empty()
        && charged.iter().filter(is_tag).count() == whom.tags.len()
        && whom.tags.iter().all(names);
    let mut text = String::with_capacity(8);
    for charged in charged {
        text.extend(whom.letter_of(charged));
    }
    if all_tags {
        text.push('g');
    }
    for charged in charged {
        if whom.letter_of(charged).is_some() || (all_tags && charged.kind == EntityKind::Tag) {
            continue;
        }
        text.push(';');
        text.push_str(charged.kind.name());
        text.push('=');
        let own = whom.first_part(charged.kind, account);
        let rest =
            own.and_then(|own| charged.id.strip_prefix(own)).filter(|rest| rest.starts_with(SEPARATOR));
        escape(rest.unwrap_or(&charged.id), &mut text);
    }
    text
}

/// Reads [`encode`] back. `None` for what it did not write.
pub(super) fn decode<'a>(whom: &Whom<'a, '_>, text: &str) -> Option<Vec<Charged<'a>>> {
    let mut parts = text.split(';');
    let mut charged = Vec::new();
    for letter in parts.next()?.chars() {
        if letter == 'g' {
            let tag = |tag: &Cow<'a, str>| Charged { kind: EntityKind::Tag, id: tag.clone() };
            charged.extend(whom.tags.iter().map(tag));
        } else {
            charged.push(whom.of_letter(letter)?);
        }
    }
    for part in parts {
        let (kind, id) = part.split_once('=')?;
        charged.push(Charged { kind: EntityKind::of_name(kind)?, id: Cow::Owned(unescape(id)?) });
    }
    let account = charged.iter().find(|charged| charged.kind == EntityKind::Key);
    let account = account.map_or(whom.key.to_owned(), |key| key.id.clone().into_owned());
    for charged in &mut charged {
        if charged.id.starts_with(SEPARATOR)
            && let Some(own) = match charged.kind {
                EntityKind::KeyModel => Some(account.as_str()),
                kind => whom.first_part(kind, ""),
            }
        {
            charged.id = Cow::Owned(format!("{own}{}", charged.id));
        }
    }
    Some(charged)
}

fn account<'a>(whom: &Whom<'a, '_>, charged: &'a [Charged<'_>]) -> &'a str {
    charged.iter().find(|charged| charged.kind == EntityKind::Key).map_or(whom.key, |key| &*key.id)
}

fn escape(id: &str, text: &mut String) {
    for c in id.chars() {
        match c {
            ';' => text.push_str("%3B"),
            '%' => text.push_str("%25"),
            c => text.push(c),
        }
    }
}

fn unescape(id: &str) -> Option<String> {
    let mut parts = id.split('%');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (escaped, rest) = part.split_at_checked(2)?;
        out.push(match escaped {
            "3B" => ';',
            "25" => '%',
            _ => return None,
        });
        out.push_str(rest);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn charged(kind: EntityKind, id: &str) -> Charged<'_> {
        Charged { kind, id: Cow::Borrowed(id) }
    }

    #[test]
    fn what_follows_from_the_row_is_a_letter() {
        let tags = [Cow::Borrowed("a"), Cow::Borrowed("b;c")];
        let whom = Whom {
            key: "hash",
            user_id: Some("u"),
            team_id: Some("t"),
            organization_id: Some("o"),
            end_user: Some("e"),
            tags: &tags,
        };
        let all = [
            charged(EntityKind::Key, "hash"),
            charged(EntityKind::Team, "t"),
            charged(EntityKind::Member, "t\u{1f}u"),
            charged(EntityKind::KeyModel, "hash\u{1f}gpt-4o"),
            charged(EntityKind::Tag, "a"),
            charged(EntityKind::Tag, "b;c"),
            charged(EntityKind::Proxy, "proxy"),
        ];
        assert_eq!(encode(&whom, &all), "ktmpg;key_model=\u{1f}gpt-4o");
        let rotated = [charged(EntityKind::Key, "first"), charged(EntityKind::KeyModel, "first\u{1f}m")];
        assert_eq!(encode(&whom, &rotated), ";key=first;key_model=\u{1f}m");
        let one_tag = [charged(EntityKind::Tag, "b;c"), charged(EntityKind::User, "100%")];
        assert_eq!(encode(&whom, &one_tag), ";tag=b%3Bc;user=100%25");
        assert_eq!(decode(&whom, "kx"), None);
        assert_eq!(decode(&whom, ";tag=%zz"), None);
        assert_eq!(decode(&Whom { team_id: None, ..whom }, "t"), None, "a letter without its column");
    }

    proptest! {
        #[test]
        fn it_is_read_back(
            key in "[ab;%]{0,3}",
            user in proptest::option::of("[ab;%\u{1f}]{0,3}"),
            team in proptest::option::of("[ab;%]{0,3}"),
            tags in proptest::collection::btree_set("[ab;%]{0,2}", 0..3),
            all in proptest::collection::btree_set((0..16_usize, "[ab;%\u{1f}=]{0,5}"), 0..8),
        ) {
            let tags: Vec<Cow<'_, str>> = tags.iter().map(|tag| Cow::Borrowed(tag.as_str())).collect();
            let whom = Whom {
                key: &key,
                user_id: user.as_deref(),
                team_id: team.as_deref(),
                organization_id: None,
                end_user: Some("a"),
                tags: &tags,
            };
            // One key at most is charged: it is the account of the uses of models.
            let mut keys = 0;
            let mut all: Vec<Charged<'_>> = all
                .iter()
                .map(|(kind, id)| charged(EntityKind::ALL[*kind], id))
                .filter(|charged| charged.kind != EntityKind::Key || { keys += 1; keys == 1 })
                .filter(|charged| !matches!(charged.kind, EntityKind::KeyModel | EntityKind::TeamModel
                    | EntityKind::UserModel) || (charged.id.contains(SEPARATOR) && !charged.id.starts_with(SEPARATOR)))
                .collect();
            let mut again = decode(&whom, &encode(&whom, &all)).expect("ours");
            all.sort();
            again.sort();
            prop_assert_eq!(again, all);
        }
    }
}
