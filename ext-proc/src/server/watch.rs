//! Has one of the configuration's files new content, or one of its objects in a bucket?
//!
//! Content is compared, not times or inodes, and read through the path as given: an editor's rename, a Kubernetes
//! ConfigMap (whose files are links to links that are swapped) and a plain write all look the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_yaml_ng::Value;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::config::{Origin, file_references};

/// A file may be seen half written: what is new must stay the same for so long before it is read.
const SETTLE: Duration = Duration::from_millis(100);
/// Files watched at most; a configuration of more is watched in part.
const MAX_FILES: usize = 256;
/// Larger files are not configurations, as in the loader.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

type Fingerprint = [u8; 32];

/// The files of one configuration, and the content that was seen last.
pub(super) struct Watch {
    origin: Origin,
    /// Files and objects of the last good configuration: the loader knows them all.
    loaded: Vec<PathBuf>,
    /// Those and what the files include now, existing or not: a configuration that was refused is watched too.
    files: BTreeSet<PathBuf>,
    seen: Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    files: Fingerprint,
    /// Of a bucket.
    objects: Option<Fingerprint>,
}

impl Watch {
    /// Takes the content of files as of now for known, and of objects what was read. Reads the files.
    pub(super) fn new(origin: Origin, loaded: Vec<PathBuf>) -> Self {
        let files = closure(&origin, &loaded);
        let objects = origin.bucket().map(|bucket| bucket.known());
        let seen = Seen { files: fingerprint(&files), objects };
        Self { origin, loaded, files, seen }
    }

    /// Returns when the content is another than the one seen last. May be cancelled.
    pub(super) async fn changed(&self, every: Duration) {
        loop {
            sleep(every).await;
            let mut now = self.look().await;
            while now != self.seen {
                sleep(SETTLE).await;
                let again = self.look().await;
                if again == now {
                    return;
                }
                now = again;
            }
        }
    }

    async fn look(&self) -> Seen {
        let files = self.files.clone();
        let looking = tokio::task::spawn_blocking(move || fingerprint(&files));
        let objects = match self.origin.bucket() {
            Some(bucket) => Some(bucket.look().await),
            None => None,
        };
        // Only a runtime that shuts down stops the task.
        Seen { files: looking.await.unwrap_or(self.seen.files), objects }
    }

    /// Takes the content of files now as seen; before they are read.
    pub(super) async fn take(&mut self) {
        let (origin, loaded) = (self.origin.clone(), self.loaded.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let files = closure(&origin, &loaded);
            let seen = fingerprint(&files);
            (files, seen)
        });
        if let Ok((files, seen)) = looked.await {
            (self.files, self.seen.files) = (files, seen);
        }
    }

    /// Takes objects as seen that were read, or could not be; after that.
    pub(super) fn took_objects(&mut self) {
        self.seen.objects = self.origin.bucket().map(|bucket| bucket.known());
    }

    /// The loader read these files; others than it did before are watched from now on.
    pub(super) async fn also(&mut self, loaded: Vec<PathBuf>) {
        if let Some(bucket) = self.origin.bucket() {
            bucket.retain(&loaded);
        }
        if loaded != self.loaded {
            let new = loaded.iter().any(|file| self.origin.is_file(file) && !self.files.contains(file));
            self.loaded = loaded;
            if new {
                self.take().await;
            }
        }
    }
}

/// The root, `loaded`, everything that is included from there as far as plain names go, and what placeholders name. An
/// include with a placeholder is left to `loaded`. Of a bucket only the files that its objects name.
fn closure(origin: &Origin, loaded: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found: BTreeSet<PathBuf> =
        loaded.iter().filter(|file| origin.is_file(file)).take(MAX_FILES).cloned().collect();
    let mut visited = BTreeSet::new();
    let root = origin.root();
    let mut open = vec![root.clone()];
    while let Some(file) = open.pop() {
        if found.len() >= MAX_FILES || visited.len() >= MAX_FILES {
            break;
        }
        if origin.is_file(&file) {
            found.insert(file.clone());
        }
        if visited.insert(file.clone()) {
            let text = match origin.bucket() {
                Some(bucket) => bucket.seen(&file).map(|text| text.as_ref().to_owned()),
                None => read(&file).and_then(|bytes| String::from_utf8(bytes).ok()),
            };
            let text = text.unwrap_or_default();
            found.extend(file_references(&text));
            // As the loader does: beside the file that includes, else beside the root file.
            let beside = |name: &String| [origin.beside(&file, name), origin.beside(&root, name)];
            open.extend(includes(&text).iter().flat_map(beside));
        }
    }
    found
}

fn includes(text: &str) -> Vec<String> {
    let Ok(Value::Mapping(map)) = serde_yaml_ng::from_str::<Value>(text) else { return Vec::new() };
    let names = map.get("include").and_then(Value::as_sequence).cloned().unwrap_or_default();
    names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn fingerprint(files: &BTreeSet<PathBuf>) -> Fingerprint {
    let mut all = Sha256::new();
    for file in files {
        // A file that is not there differs from an empty one.
        match read(file) {
            Some(content) => all.update(Sha256::digest(content)),
            None => all.update(b"absent"),
        }
    }
    all.finalize().into()
}

fn read(file: &Path) -> Option<Vec<u8>> {
    let metadata = std::fs::metadata(file).ok()?;
    (metadata.is_file() && metadata.len() <= MAX_FILE_BYTES).then(|| std::fs::read(file).ok()).flatten()
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
