//! What is wrong with a configuration, and where.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

/// A problem (error or warning) at a place in a file. Its text never contains a value from the file that could be
/// a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    pub file: Option<PathBuf>,
    /// 1-based; the nearest line found.
    pub line: Option<usize>,
    /// `model_list[0].litellm_params.rpm`; empty when the whole file is meant.
    pub path: String,
    pub message: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", file.display())?,
            (Some(file), None) => write!(f, "{}: ", file.display())?,
            _ => {}
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong, not only the first: at least one issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Issue>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 error in the configuration:")?,
            n => write!(f, "{n} errors in the configuration:")?,
        }
        self.0.iter().try_for_each(|issue| write!(f, "\n  {issue}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seg {
    Key(String),
    Index(usize),
}

/// A place in the merged configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place(pub(super) Vec<Seg>);

impl Place {
    pub(super) fn key(&self, name: &str) -> Self {
        let mut path = self.0.clone();
        path.push(Seg::Key(name.to_owned()));
        Self(path)
    }

    pub(super) fn index(&self, at: usize) -> Self {
        let mut path = self.0.clone();
        path.push(Seg::Index(at));
        Self(path)
    }

    /// `a.b` as a place.
    pub(super) fn at(dotted: &str) -> Self {
        dotted.split('.').fold(Self::default(), |place, name| place.key(name))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, seg) in self.0.iter().enumerate() {
            match seg {
                Seg::Key(name) if at == 0 => f.write_str(name)?,
                Seg::Key(name) => write!(f, ".{name}")?,
                Seg::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Problems while they are collected: places only; files and lines are added at the end, when they are needed.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<(Place, String)>,
    pub(super) warnings: Vec<(Place, String)>,
    /// Files that placeholders name.
    pub(super) references: BTreeSet<PathBuf>,
}

impl Findings {
    pub(super) fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.errors.push((place.clone(), message.into()));
    }

    pub(super) fn warn(&mut self, place: &Place, message: impl Into<String>) {
        self.warnings.push((place.clone(), message.into()));
    }
}

/// `; did you mean "x"?` for the nearest of `known`, or nothing when none is near.
pub(super) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// The most similar name, if it is similar at all.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            (strsim::normalized_damerau_levenshtein(&wanted, &candidate.to_ascii_lowercase()), candidate)
        })
        .filter(|(similarity, _)| *similarity >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
