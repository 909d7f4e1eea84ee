//! Reading files, following `include`, merging.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_yaml_ng::{Mapping, Value};

use super::env::Env;
use super::issue::{Findings, Issue, Place, Seg};
use super::locate;
use super::origin::Origin;
use super::placeholders;

/// Includes within includes, at most.
const MAX_INCLUDE_DEPTH: usize = 16;
/// How messages name the models that come from the database.
const DATABASE: &str = "(database)";
/// Files larger than this are not configurations.
pub(super) const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

struct File {
    path: PathBuf,
    text: String,
}

/// The files of one configuration, merged, and where each part came from.
pub(super) struct Files {
    origin: Origin,
    files: Vec<File>,
    /// Top-level key -> the files its value came from; for a list, how many items came from each.
    origins: BTreeMap<String, Vec<(usize, usize)>>,
    pub(super) merged: Mapping,
}

impl Files {
    /// Reads the root and everything it includes.
    pub(super) fn read(origin: &Origin, env: &Env, findings: &mut Findings) -> Result<Self, Issue> {
        let mut files = Self {
            origin: origin.clone(),
            files: Vec::new(),
            origins: BTreeMap::new(),
            merged: Mapping::new(),
        };
        files.add(&origin.root(), &mut Vec::new(), env, findings)?;
        Ok(files)
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let files = self.files.iter().map(|file| &file.path);
        files.filter(|path| *path != Path::new(DATABASE)).cloned().collect()
    }

    /// Says where the last `count` items of `model_list` came from.
    pub(super) fn stored(&mut self, count: usize) {
        let file = self.files.len();
        self.files.push(File { path: PathBuf::from(DATABASE), text: String::new() });
        self.origins.entry("model_list".to_owned()).or_default().push((file, count));
    }

    /// Adds file and line to a finding.
    pub(super) fn issue(&self, place: &Place, message: String) -> Issue {
        let (file, local) = self.origin(place);
        let file = self.files.get(file);
        Issue {
            line: file.and_then(|file| locate::line_of(&file.text, &local)),
            file: file.map(|file| file.path.clone()),
            path: place.to_string(),
            message,
        }
    }

    /// File of a place, and its path within that file.
    fn origin(&self, place: &Place) -> (usize, Vec<Seg>) {
        let mut local = place.0.clone();
        let Some(Seg::Key(top)) = place.0.first() else { return (0, local) };
        let Some(parts) = self.origins.get(top) else { return (0, local) };
        let Some(Seg::Index(mut at)) = place.0.get(1).cloned() else {
            return (parts.last().map_or(0, |(file, _)| *file), local);
        };
        for (file, count) in parts {
            if at < *count {
                local[1] = Seg::Index(at);
                return (*file, local);
            }
            at -= count;
        }
        (0, local)
    }

    fn add(
        &mut self,
        path: &Path,
        open: &mut Vec<PathBuf>,
        env: &Env,
        findings: &mut Findings,
    ) -> Result<(), Issue> {
        let problem =
            |message: String| Issue { file: Some(path.to_owned()), line: None, path: String::new(), message };
        let canonical = self.origin.canonical(path).map_err(problem)?;
        if open.contains(&canonical) {
            return Err(problem("includes itself".to_owned()));
        }
        if open.len() >= MAX_INCLUDE_DEPTH {
            return Err(problem(format!("includes nested deeper than {MAX_INCLUDE_DEPTH}")));
        }
        let text = self.origin.read(path).map_err(problem)?;
        let mut map = parse(&text).map_err(|(line, message)| Issue { line, ..problem(message) })?;
        let file = self.files.len();
        self.files.push(File { path: path.to_owned(), text });
        let includes = map.remove("include");
        self.merge(map, file, findings);
        open.push(canonical);
        for include in self.includes(includes, file, env)? {
            let target = self.find(&include, path, findings)?;
            self.add(&target, open, env, findings)?;
        }
        open.pop();
        Ok(())
    }

    /// The strings of `include:`.
    fn includes(&self, value: Option<Value>, file: usize, env: &Env) -> Result<Vec<String>, Issue> {
        let place = Place::at("include");
        let problem = |place: &Place, message: String| Issue {
            line: self.files.get(file).and_then(|file| locate::line_of(&file.text, &place.0)),
            file: self.files.get(file).map(|file| file.path.clone()),
            path: place.to_string(),
            message,
        };
        let items = match value {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Sequence(items)) => items,
            Some(other) => {
                let found = super::walk::found(&other);
                return Err(problem(&place, format!("found {found}, expected a list of file names")));
            }
        };
        let mut names = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let Value::String(text) = item else {
                let found = super::walk::found(item);
                return Err(problem(&place.index(at), format!("found {found}, expected a file name")));
            };
            let name = placeholders::expand(text, env)
                .map_err(|why| problem(&place.index(at), placeholders::explain(&why, env)))?;
            names.push(name);
        }
        Ok(names)
    }

    /// Relative to the file that includes; else, with a warning, relative to the root file.
    fn find(&self, include: &str, from: &Path, findings: &mut Findings) -> Result<PathBuf, Issue> {
        let near = self.origin.beside(from, include);
        if self.origin.exists(&near) {
            return Ok(near);
        }
        let beside_root = self.files.first().map(|root| self.origin.beside(&root.path, include));
        if let Some(root) = beside_root.filter(|path| self.origin.exists(path)) {
            findings.warn(
                &Place::default(),
                format!("{} includes {include}, found beside the root file instead", from.display()),
            );
            return Ok(root);
        }
        Err(Issue {
            file: Some(from.to_owned()),
            line: None,
            path: "include".to_owned(),
            message: format!("there is no file {}", near.display()),
        })
    }

    /// LiteLLM's rule per top-level key: two lists are joined, anything else is replaced by the included value.
    fn merge(&mut self, map: Mapping, file: usize, findings: &mut Findings) {
        for (key, value) in map {
            let name = key_text(&key);
            let count = value.as_sequence().map_or(0, Vec::len);
            match (self.merged.get_mut(&key), value) {
                (Some(Value::Sequence(base)), Value::Sequence(more)) => {
                    base.extend(more);
                    self.origins.entry(name).or_default().push((file, count));
                }
                (existing, value) => {
                    if existing.is_some() {
                        let by = self.files.get(file).map(|f| f.path.display().to_string());
                        let by = by.unwrap_or_default();
                        findings.warn(
                            &Place::at(&name),
                            format!("the whole section is replaced by the one in {by}, as LiteLLM does"),
                        );
                    }
                    self.origins.insert(name, vec![(file, count)]);
                    self.merged.insert(key, value);
                }
            }
        }
    }
}

/// A mapping's key as text (YAML allows numbers and more).
pub(super) fn key_text(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        other => format!("({})", super::walk::found(other)),
    }
}

pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot read it: {error}"))?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("larger than {} MiB: not a configuration", MAX_FILE_BYTES / 1024 / 1024));
    }
    std::fs::read_to_string(path).map_err(|error| format!("cannot read it: {error}"))
}

fn parse(text: &str) -> Result<Mapping, (Option<usize>, String)> {
    let mut value: Value = serde_yaml_ng::from_str(text)
        .map_err(|error| (error.location().map(|at| at.line()), format!("not valid YAML: {error}")))?;
    value.apply_merge().map_err(|error| (None, format!("not valid YAML: {error}")))?;
    match value {
        Value::Mapping(map) => Ok(map),
        Value::Null => Ok(Mapping::new()),
        other => Err((
            None,
            format!("found {}, expected sections such as `model_list:`", super::walk::found(&other)),
        )),
    }
}
