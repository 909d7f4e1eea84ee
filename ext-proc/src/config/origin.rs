//! Where a configuration is: a file, or an object in a bucket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bucket::{Bucket, KEY, NAME};
use super::files;

/// The root of a configuration.
#[derive(Debug, Clone)]
pub enum Origin {
    File(PathBuf),
    Bucket(Arc<Bucket>),
}

impl From<&Path> for Origin {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for Origin {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&Self> for Origin {
    fn from(origin: &Self) -> Self {
        origin.clone()
    }
}

impl Origin {
    /// Its path, for people; only that of a file can be opened.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Bucket(bucket) => bucket.root(),
        }
    }

    pub(crate) fn bucket(&self) -> Option<&Arc<Bucket>> {
        match self {
            Self::File(_) => None,
            Self::Bucket(bucket) => Some(bucket),
        }
    }

    /// Is this one of the files, and no object?
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        self.bucket().is_none_or(|bucket| !bucket.has(path))
    }

    /// What `include: name` in `file` means.
    pub(crate) fn beside(&self, file: &Path, name: &str) -> PathBuf {
        match self {
            Self::File(_) => file.parent().unwrap_or(Path::new("")).join(name),
            Self::Bucket(bucket) => bucket.beside(file, name),
        }
    }

    /// The text of one of its files.
    pub(super) fn read(&self, path: &Path) -> Result<String, String> {
        match self {
            Self::File(_) => files::read_text(path),
            Self::Bucket(bucket) => match bucket.read(path) {
                Ok(Some(text)) => Ok(text.as_ref().to_owned()),
                Ok(None) => Err(format!("there is no such object, or no such bucket ({NAME}, {KEY})")),
                Err(why) => Err(format!("cannot read it: {why} ({NAME}, {KEY})")),
            },
        }
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        match self {
            Self::File(_) => path.exists(),
            // What cannot be read is read later, and its error told.
            Self::Bucket(bucket) => bucket.read(path).map_or(true, |text| text.is_some()),
        }
    }

    /// One name for a file, however it is called.
    pub(super) fn canonical(&self, path: &Path) -> Result<PathBuf, String> {
        match self {
            Self::File(_) => path.canonicalize().map_err(|error| format!("cannot read it: {error}")),
            Self::Bucket(_) => Ok(path.to_owned()),
        }
    }
}
