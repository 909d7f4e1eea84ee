//! Private Redis and Postgres servers for tests, on Unix sockets in a directory of their own, stopped on drop.
//!
//! A binary is looked for in the environment (`ATTACHE_REDIS_SERVER`, `ATTACHE_POSTGRES_BIN`), on `PATH`, then
//! in the usual places. A missing one panics with the remedy: a test that cannot run has failed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::Connection;

use super::RedisServers;
use crate::config::Secret;

const START: Duration = Duration::from_secs(60);

/// A directory below the system's temporary one, removed on drop.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Readable by all: Postgres runs as another user when the tests run as root.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("attache-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("temporary directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        Self(path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A private Redis.
#[derive(Debug)]
pub struct Redis {
    directory: TempDir,
    child: Option<Child>,
    /// More arguments, over the others.
    more: Vec<String>,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        let mut redis = Self::stopped();
        redis.launch().await;
        redis
    }

    /// One that does not run yet; its URL is known.
    #[must_use]
    pub fn stopped() -> Self {
        Self { directory: TempDir::new(), child: None, more: Vec::new() }
    }

    /// One that does not run yet and writes an append-only file: it begins with its data each time.
    #[must_use]
    pub fn durable() -> Self {
        let mut redis = Self::stopped();
        redis.more = ["--appendonly", "yes"].map(str::to_owned).into();
        redis
    }

    /// Takes its append-only file away, while it does not run.
    pub fn lose(&self) {
        let _ = fs::remove_dir_all(self.directory.path().join("appendonlydir"));
    }

    #[must_use]
    pub fn url(&self) -> Secret {
        Secret::new(format!("redis+unix://{}", self.socket().display()))
    }

    #[must_use]
    pub fn servers(&self) -> RedisServers {
        RedisServers::one(self.url())
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// Starts (again), with no data but that of an append-only file.
    pub async fn launch(&mut self) {
        let binary = find("ATTACHE_REDIS_SERVER", "redis-server", &["/usr/bin", "/usr/local/bin"]);
        let mut command = Command::new(binary);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(self.socket());
        command.arg("--dir").arg(self.directory.path()).args(&self.more);
        self.child = Some(spawn(command, &self.directory.path().join("log")));
        let client = ::redis::Client::open(self.url().expose()).expect("redis url");
        let started = Instant::now();
        while client.get_multiplexed_async_connection().await.is_err() {
            assert!(started.elapsed() < START, "redis-server did not start: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Kills it without a word to anyone.
    pub fn kill(&mut self) {
        end(self.child.take(), "KILL");
    }

    /// Stops it from answering while its connections stay open (`frozen`), or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let child = self.child.as_ref().expect("running");
        signal(child.id(), if frozen { "STOP" } else { "CONT" });
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A private Postgres cluster, databases `postgres` and what [`Postgres::database`] makes.
#[derive(Debug)]
pub struct Postgres {
    directory: TempDir,
    child: Option<Child>,
}

impl Postgres {
    /// Makes one and waits until it answers.
    pub async fn start() -> Self {
        let mut postgres = Self::stopped();
        postgres.launch().await;
        postgres
    }

    /// One that does not run yet; its URL is known.
    #[must_use]
    pub fn stopped() -> Self {
        let directory = TempDir::new();
        if let Some((user, _)) = other_user() {
            run(Command::new("chown").arg(user).arg(directory.path()));
        }
        let mut initdb = postgres_command("initdb");
        initdb.args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "-D"]);
        run(initdb.arg(directory.path().join("data")).stdout(Stdio::null()));
        Self { directory, child: None }
    }

    /// URL of a database of this cluster.
    #[must_use]
    pub fn url(&self, database: &str) -> Secret {
        Secret::new(format!(
            "postgres://postgres@localhost/{database}?host={}",
            self.directory.path().display()
        ))
    }

    /// Makes an empty database and returns its URL.
    pub async fn database(&self, name: &str) -> Secret {
        self.execute("postgres", &format!("CREATE DATABASE {name}")).await;
        self.url(name)
    }

    /// Runs one trusted statement.
    pub async fn execute(&self, database: &str, sql: &str) {
        let mut connection = self.connect(database).await.expect("postgres");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
    }

    /// A connection beside the store's, e.g. to hold a lock.
    pub async fn connect(&self, database: &str) -> sqlx::Result<sqlx::PgConnection> {
        sqlx::PgConnection::connect(self.url(database).expose()).await
    }

    /// Starts (again), with its data.
    pub async fn launch(&mut self) {
        let mut command = postgres_command("postgres");
        command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB", "-k"]);
        command.arg(self.directory.path()).arg("-D").arg(self.directory.path().join("data"));
        let log = self.directory.path().join("log");
        self.child = Some(spawn(command, &log));
        let started = Instant::now();
        while self.connect("postgres").await.is_err() {
            let log = || fs::read_to_string(&log).unwrap_or_default();
            assert!(started.elapsed() < START, "postgres did not start: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it at once, cutting its connections.
    pub fn kill(&mut self) {
        end(self.child.take(), "QUIT");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Postgres refuses to run as root: user and group that it runs as then.
fn other_user() -> Option<(&'static str, String)> {
    let root = fs::metadata("/proc/self").is_ok_and(|us| std::os::unix::fs::MetadataExt::uid(&us) == 0);
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = |user: &'static str| {
        let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        entries.find(|entry| entry.first() == Some(&user)).map(|entry| (user, entry[3].to_owned()))
    };
    root.then(|| ["postgres", "nobody"].into_iter().find_map(group).expect("a user for Postgres"))
}

fn postgres_command(name: &str) -> Command {
    let mut places: Vec<String> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|v| format!("{}/bin", v.path().display())).collect())
        .unwrap_or_default();
    places.sort();
    places.reverse();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let binary = find("ATTACHE_POSTGRES_BIN", name, &places);
    let Some((user, group)) = other_user() else { return Command::new(binary) };
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups").arg(binary);
    command
}

/// `variable` names the binary or the directory that it is in.
pub(super) fn find(variable: &str, name: &str, places: &[&str]) -> PathBuf {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let named = named.map(|path| if path.is_dir() { path.join(name) } else { path });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = named
        .into_iter()
        .chain(std::env::split_paths(&path).map(|directory| directory.join(name)))
        .chain(places.iter().map(|place| Path::new(place).join(name)));
    candidates
        .into_iter()
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{name} not found: run `make setup`, or set {variable}"))
}

fn spawn(mut command: Command, log: &Path) -> Child {
    let log = fs::File::create(log).expect("log");
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("log")).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

pub(super) fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

pub(super) fn signal(pid: u32, name: &str) {
    run(Command::new("kill").args(["-s", name, &pid.to_string()]));
}

fn end(child: Option<Child>, name: &str) {
    let Some(mut child) = child else { return };
    if child.try_wait().is_ok_and(|ended| ended.is_none()) {
        let _ = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    }
    let _ = child.wait();
}
