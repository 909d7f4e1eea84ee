"""Private Redis and Postgres for tests: own data, own port, gone afterwards. Standard library only."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from project import Failure, find_program, wait_for  # noqa: E402
from setup import POSTGRES_PLACES, REDIS_PLACES  # noqa: E402
from stack import Process, free_address  # noqa: E402

import signal  # noqa: E402
import socket  # noqa: E402


def _program(name, places):
    found = find_program(name, *places)
    if not found:
        raise Failure(f"{name} is missing: run `make setup`")
    return found


def _accepts(host, port):
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


class Redis:
    """A Redis with a password; `durable` ones keep their data on disk, others nothing."""

    password = "not-a-secret-redis"

    def __init__(self, folder, durable=False, host="127.0.0.1"):
        folder.mkdir(parents=True, exist_ok=True)
        self.host, port = host, free_address().split(":")[1]
        self.port = int(port)
        shutil.rmtree(folder / "appendonlydir", ignore_errors=True)
        command = [_program("redis-server", REDIS_PLACES), "--port", port, "--bind", self.host, "--save", "",
                   "--appendonly", "yes" if durable else "no", "--requirepass", self.password, "--dir", folder]
        self.process = Process("redis", command, folder, dict(os.environ))

    @property
    def url(self):
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    def start(self):
        self.process.start()
        wait_for("Redis", lambda: self.process.check() or _accepts(self.host, self.port), 10)
        return self

    def stop(self, how=signal.SIGKILL):
        self.process.stop(how)

    def cli(self, *command):
        arguments = ["redis-cli", "-h", self.host, "-p", str(self.port), "-a", self.password, "--no-auth-warning", *command]
        return subprocess.run(arguments, text=True, capture_output=True, check=True).stdout.strip()


class Postgres:
    """A Postgres cluster in a temporary folder. Postgres refuses to run as root, so root lends it to another user."""

    def __init__(self, folder, database="attache", host="127.0.0.1"):
        folder.mkdir(parents=True, exist_ok=True)
        self.host, port = host, free_address().split(":")[1]
        self.port, self.database = int(port), database
        # Not below the project: the other user may not be able to enter a checkout of root's.
        self.home = Path(tempfile.mkdtemp(prefix="attache-pg-"))
        self.data = self.home / "data"
        self.prefix, self.environment = self._other_user()
        command = [*self.prefix, _program("postgres", POSTGRES_PLACES), "-D", self.data, "-p", port, "-h", self.host,
                   "-k", self.home, "-c", "fsync=off", "-c", "max_connections=60"]
        self.process = Process("postgres", command, folder, self.environment)

    def _other_user(self):
        environment = dict(os.environ, LC_ALL="C", HOME=str(self.home))
        if os.geteuid() != 0:
            return [], environment
        names = [entry.pw_name for entry in pwd.getpwall()]
        user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        os.chown(self.home, user.pw_uid, user.pw_gid)
        tool = shutil.which("setpriv")
        if not tool:
            raise Failure("setpriv (util-linux) is missing; Postgres does not run as root")
        return [tool, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=KILL"], environment

    @property
    def url(self):
        return f"postgresql://attache:not-a-secret-pg@{self.host}:{self.port}/{self.database}"

    def start(self):
        if not self.data.exists():
            self._create()
        self.process.start()
        wait_for("Postgres", lambda: self.process.check() or self._answers(), 30, 0.05)
        return self

    def _create(self):
        password = self.home / "password"
        password.write_text("not-a-secret-pg\n")
        password.chmod(0o644)
        command = [*self.prefix, _program("initdb", POSTGRES_PLACES), "-D", self.data, "-U", "attache", "--no-sync",
                   "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C"]
        done = subprocess.run([str(part) for part in command], env=self.environment, cwd=self.home, text=True,
                              capture_output=True, check=False)
        if done.returncode != 0:
            raise Failure(f"initdb failed:\n{done.stdout}{done.stderr}")
        # By itself Postgres lets nobody in who comes from elsewhere.
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")
        # A single-user server makes the database, so that no client program is needed.
        command = [*self.prefix, _program("postgres", POSTGRES_PLACES), "--single", "-D", self.data, "postgres"]
        subprocess.run([str(part) for part in command], input=f"CREATE DATABASE {self.database};\n", text=True,
                       env=self.environment, cwd=self.home, capture_output=True, check=True)

    def _answers(self):
        ready = find_program("pg_isready", *POSTGRES_PLACES)
        if not ready:
            return _accepts(self.host, self.port)
        command = [str(ready), "-q", "-h", self.host, "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def stop(self, how=signal.SIGQUIT):
        self.process.stop(how)

    def remove(self):
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
