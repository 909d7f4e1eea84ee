//! Has one of the configuration's files new content?
//!
//! Content is compared, not times or inodes, and read through the path as given: an editor's rename, a Kubernetes
//! ConfigMap (whose files are links to links that are swapped) and a plain write all look the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_yaml_ng::Value;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

/// A file may be seen half written: what is new must stay the same for so long before it is read.
const SETTLE: Duration = Duration::from_millis(100);
/// Files watched at most; a configuration of more is watched in part.
const MAX_FILES: usize = 256;
/// Larger files are not configurations, as in the loader.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

type Fingerprint = [u8; 32];

/// The files of one configuration, and the content that was seen last.
pub(super) struct Watch {
    root: PathBuf,
    /// Files of the last good configuration: the loader knows them all.
    loaded: Vec<PathBuf>,
    /// Those and what the files include now, existing or not: a configuration that was refused is watched too.
    files: BTreeSet<PathBuf>,
    seen: Fingerprint,
}

impl Watch {
    /// Takes the content as of now for known. Reads the files.
    pub(super) fn new(root: PathBuf, loaded: Vec<PathBuf>) -> Self {
        let files = closure(&root, &loaded);
        let seen = fingerprint(&files);
        Self { root, loaded, files, seen }
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

    async fn look(&self) -> Fingerprint {
        let files = self.files.clone();
        // Only a runtime that shuts down stops the task.
        tokio::task::spawn_blocking(move || fingerprint(&files)).await.unwrap_or(self.seen)
    }

    /// Takes the content of now as seen.
    pub(super) async fn take(&mut self) {
        let (root, loaded) = (self.root.clone(), self.loaded.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let files = closure(&root, &loaded);
            let seen = fingerprint(&files);
            (files, seen)
        });
        if let Ok((files, seen)) = looked.await {
            (self.files, self.seen) = (files, seen);
        }
    }

    /// The loader read these files; others than it did before are watched from now on.
    pub(super) async fn also(&mut self, loaded: Vec<PathBuf>) {
        if loaded != self.loaded {
            let new = loaded.iter().any(|file| !self.files.contains(file));
            self.loaded = loaded;
            if new {
                self.take().await;
            }
        }
    }
}

/// The root, `loaded`, and everything that is included from there as far as plain names go. A name with a placeholder
/// is left to `loaded`.
fn closure(root: &Path, loaded: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found: BTreeSet<PathBuf> = loaded.iter().take(MAX_FILES).cloned().collect();
    let mut visited = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    let beside = |file: &Path, name: &str| file.parent().unwrap_or(Path::new("")).join(name);
    while let Some(file) = open.pop() {
        if found.len() >= MAX_FILES {
            break;
        }
        found.insert(file.clone());
        if visited.insert(file.clone()) {
            // As the loader does: beside the file that includes, else beside the root file.
            open.extend(includes(&file).iter().flat_map(|name| [beside(&file, name), beside(root, name)]));
        }
    }
    found
}

fn includes(file: &Path) -> Vec<String> {
    let Some(text) = read(file).and_then(|bytes| String::from_utf8(bytes).ok()) else { return Vec::new() };
    let Ok(Value::Mapping(map)) = serde_yaml_ng::from_str::<Value>(&text) else { return Vec::new() };
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
