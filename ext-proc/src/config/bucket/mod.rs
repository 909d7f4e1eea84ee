//! A configuration in a bucket: `LITELLM_CONFIG_BUCKET_NAME`, `_OBJECT_KEY` and `_TYPE` (`s3`, `gcs`).
//!
//! Objects are named by paths such as `s3://bucket/prefix/config.yaml`, so that messages and includes work as they do
//! with files. What was read is kept with its ETag: asking again costs a 304.

mod http;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attache_llm::error::mask_secrets;
use object_store::path::Path as ObjectPath;
use object_store::{Error, GetOptions, ObjectStore};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::files::MAX_FILE_BYTES;
use crate::credentials::xml_element;

pub(super) const NAME: &str = "LITELLM_CONFIG_BUCKET_NAME";
pub(super) const KEY: &str = "LITELLM_CONFIG_BUCKET_OBJECT_KEY";
pub(super) const TYPE: &str = "LITELLM_CONFIG_BUCKET_TYPE";
#[expect(clippy::cast_possible_truncation, reason = "16 MiB")]
const MAX_BYTES: usize = MAX_FILE_BYTES as usize;
/// Objects that are polled at most.
const MAX_OBJECTS: usize = 256;
/// Longest part of a server's own words, characters.
const MAX_WORDS: usize = 300;

/// A bucket, the object with the configuration in it, and what was read so far.
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    scheme: &'static str,
    name: String,
    key: String,
    known: Mutex<BTreeMap<PathBuf, Known>>,
}

/// An object as it was seen last.
#[derive(Clone, Default)]
struct Known {
    etag: Option<String>,
    /// `None`: it was not there.
    text: Option<Arc<str>>,
    /// The last attempt to read it failed; the rest is older.
    unreadable: bool,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bucket").field(&self.root()).finish()
    }
}

impl Bucket {
    fn new(store: Arc<dyn ObjectStore>, scheme: &'static str, name: &str, key: &str) -> Self {
        Self { store, scheme, name: name.to_owned(), key: key.to_owned(), known: Mutex::default() }
    }

    /// The configuration.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.top().join(&self.key)
    }

    fn top(&self) -> PathBuf {
        PathBuf::from(format!("{}://{}", self.scheme, self.name))
    }

    /// Is it one of this bucket's objects, and not a file?
    pub(crate) fn has(&self, path: &Path) -> bool {
        path.starts_with(self.top())
    }

    /// An object that another one names: relative to that, or with a `/` to the bucket.
    pub(super) fn beside(&self, object: &Path, name: &str) -> PathBuf {
        let top = self.top();
        let (folder, name) = match name.strip_prefix('/') {
            Some(name) => (top.clone(), name),
            None => (object.parent().unwrap_or(&top).to_owned(), name),
        };
        let mut path = folder;
        for part in name.split('/') {
            match part {
                "" | "." => {}
                // Never out of the bucket.
                ".." => path = path.parent().filter(|up| up.starts_with(&top)).unwrap_or(&top).to_owned(),
                part => path.push(part),
            }
        }
        path
    }

    /// The text of an object as it is now; `None` if there is none. Blocks; may be called from anywhere.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Arc<str>>, String> {
        // On a thread of its own: the caller's may drive a runtime, in which another one cannot block.
        let reading = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| error.to_string())?.block_on(self.fetch(path))
        };
        std::thread::scope(|scope| scope.spawn(reading).join())
            .unwrap_or_else(|_| Err("reading stopped".to_owned()))
    }

    /// The text as it was seen last.
    pub(crate) fn seen(&self, path: &Path) -> Option<Arc<str>> {
        self.known.lock().get(path).and_then(|known| known.text.clone())
    }

    /// Asks for all objects that are known, and tells what is known then.
    pub(crate) async fn look(&self) -> [u8; 32] {
        let paths: Vec<PathBuf> = self.known.lock().keys().take(MAX_OBJECTS).cloned().collect();
        for path in paths {
            if let Err(error) = self.fetch(&path).await {
                tracing::debug!(object = %path.display(), error, "cannot be read");
            }
        }
        self.known()
    }

    /// A fingerprint of what the objects had in them when they were asked for last, and whether they could be read.
    pub(crate) fn known(&self) -> [u8; 32] {
        let mut all = Sha256::new();
        for (path, known) in self.known.lock().iter() {
            all.update(Sha256::digest(path.as_os_str().as_encoded_bytes()));
            match &known.text {
                Some(text) => all.update(Sha256::digest(text.as_bytes())),
                None => all.update(b"absent"),
            }
            all.update([u8::from(known.unreadable)]);
        }
        all.finalize().into()
    }

    /// Forgets objects that a configuration no longer has.
    pub(crate) fn retain(&self, paths: &[PathBuf]) {
        self.known.lock().retain(|path, _| paths.contains(path));
    }

    async fn fetch(&self, path: &Path) -> Result<Option<Arc<str>>, String> {
        let known = self.known.lock().get(path).cloned().unwrap_or_default();
        let outcome = self.ask(path, &known).await;
        let now = match &outcome {
            Ok(found) => found.clone(),
            Err(_) => Known { unreadable: true, ..known },
        };
        self.known.lock().insert(path.to_owned(), now);
        outcome.map(|found| found.text)
    }

    async fn ask(&self, path: &Path, known: &Known) -> Result<Known, String> {
        let key = path.strip_prefix(self.top()).ok().and_then(Path::to_str).unwrap_or_default();
        let key = ObjectPath::parse(key).map_err(|_| "its name is no object key".to_owned())?;
        // Without a text there is nothing that a 304 could mean.
        let if_none_match = known.text.as_ref().and(known.etag.clone());
        let options = GetOptions { if_none_match, ..GetOptions::default() };
        match self.store.get_opts(&key, options).await {
            Ok(result) => {
                let etag = result.meta.e_tag.clone();
                if result.meta.size > MAX_FILE_BYTES {
                    return Err(format!(
                        "larger than {} MiB: not a configuration",
                        MAX_FILE_BYTES / 1024 / 1024
                    ));
                }
                let bytes = result.bytes().await.map_err(|error| words(&error))?;
                let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_owned())?;
                Ok(Known { etag, text: Some(Arc::from(text)), unreadable: false })
            }
            Err(Error::NotModified { .. }) => Ok(Known { unreadable: false, ..known.clone() }),
            Err(Error::NotFound { .. }) => Ok(Known::default()),
            Err(error) => Err(words(&error)),
        }
    }
}

/// What an operator needs of an error: no signature, no page of XML.
fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    let of = |name| xml_element(&text, name);
    let text = match (error, of("Code"), of("Message")) {
        (_, Some(code), message) => format!("refused with {code} {}", message.unwrap_or_default()),
        (Error::PermissionDenied { .. }, ..) => {
            "refused with 403: these credentials may not read it".to_owned()
        }
        (Error::Unauthenticated { .. }, ..) => {
            "refused with 401: no credentials, or none that are good".to_owned()
        }
        _ => text,
    };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect();
    mask_secrets(text.trim_end())
}

#[cfg(test)]
mod tests;
