"""Coming from LiteLLM: its keys go on working. And the command line's own keys."""

import hashlib
import json
import subprocess
import time

import psycopg
import pytest
from harness import ROOT, assert_envelope, chat
from project import ATTACHE
from servers import Postgres

SCHEMA = ROOT / "ext-proc/src/import/schema.sql"


def run(gateway, *arguments, status=0):
    """The binary in the gateway's environment."""
    done = subprocess.run([str(part) for part in (ATTACHE, *arguments)], env=gateway.stack.environment, text=True,
                          capture_output=True, check=False, timeout=120)
    assert done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout if status == 0 else done.stderr


def twin(gateway, *arguments, **options):
    """A command that talks to the gateway through Envoy."""
    return run(gateway, *arguments, "--url", gateway.url, "--master-key", gateway.master_key, **options)


@pytest.fixture
def litellm(tmp_path_factory):
    """A LiteLLM database: empty tables, and a way to fill them."""
    server = Postgres(tmp_path_factory.mktemp("litellm"), database="litellm").start()
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(SCHEMA.read_text())
            yield server, connection
    finally:
        server.remove()


def imported(gateway, server, *more, status=0):
    return run(gateway, "import", "litellm", "--database-url", server.url, "--config", gateway.stack.config,
               "--data-dir", gateway.stack.data, *more, status=status)


def answered(gateway, key, status, model="gpt-4o", seconds=3):
    """Within a second of a change every worker knows; some more for slow machines."""
    end = time.monotonic() + seconds
    while (answer := gateway.post(chat(model), key=key)).status_code != status:
        assert time.monotonic() < end, f"{answer.status_code} instead of {status}: {answer.text}"
        time.sleep(0.05)
    return answer


def insert_key(connection, plain, **columns):
    columns = {"token": hashlib.sha256(plain.encode()).hexdigest(), "key_name": f"sk-...{plain[-4:]}", **columns}
    names = ", ".join(columns)
    places = ", ".join(f"%({name})s" for name in columns)
    connection.execute(f'INSERT INTO "LiteLLM_VerificationToken" ({names}) VALUES ({places})', columns)


def test_keys_of_litellm_go_on_working(own_gateway, litellm):
    gateway, (server, connection) = own_gateway, litellm
    mark = f"{time.time_ns()}"
    good, blocked, narrow = (f"sk-{kind}-of-litellm-{mark}" for kind in ("good", "blocked", "narrow"))
    connection.execute("""INSERT INTO "LiteLLM_TeamTable" (team_id, team_alias, models) VALUES ('t1', 'search', '{}')""")
    insert_key(connection, good, key_alias=f"good-{mark}", team_id="t1", spend=0.25)
    insert_key(connection, blocked, blocked=True)
    insert_key(connection, narrow, models=["gpt-4o-mini"])
    assert gateway.post(key=good).status_code == 401

    text = imported(gateway, server, "--dry-run")
    assert "nothing was written" in text
    assert gateway.post(key=good).status_code == 401

    report = json.loads(imported(gateway, server, "--json"))
    created = {table["table"]: table["created"] for table in report["tables"]}
    assert (created["LiteLLM_VerificationToken"], created["LiteLLM_TeamTable"]) == (3, 1)
    answered(gateway, good, 200)
    answered(gateway, narrow, 200, "gpt-4o-mini")
    assert_envelope(gateway.post(chat("gpt-4o"), key=narrow), 403, "key_model_access_denied")
    assert gateway.post(key=blocked).status_code in (401, 403)
    info = gateway.stack.call("GET", f"/key/info?key={good}")["info"]
    assert (info["team_id"], info["spend"] >= 0.25) == ("t1", True)

    assert "nothing to change" in imported(gateway, server)
    connection.execute("""UPDATE "LiteLLM_VerificationToken" SET blocked = true WHERE key_alias = %s""",
                       [f"good-{mark}"])
    imported(gateway, server)
    deadline = time.monotonic() + 3
    while gateway.post(key=good).status_code == 200:
        assert time.monotonic() < deadline, "a key that LiteLLM blocked is still good"
        time.sleep(0.05)


def test_a_key_that_cannot_be_taken_over_fails_the_import(own_gateway, litellm):
    gateway, (server, connection) = own_gateway, litellm
    connection.execute("""INSERT INTO "LiteLLM_VerificationToken" (token, key_alias) VALUES ('sk-plain', 'ancient')""")
    text = run(gateway, "import", "litellm", "--database-url", server.url, "--config", gateway.stack.config,
               "--data-dir", gateway.stack.data, "--dry-run", status=1)
    assert "sk-plain" not in text


def test_the_command_line_makes_and_stops_keys(gateway):
    alias = f"cli-{time.time_ns()}"
    twin(gateway, "team", "create", f"team-{alias}")
    made = json.loads(twin(gateway, "key", "create", "--team", f"team-{alias}", "--alias", alias, "--budget",
                           "20/month", "--models", "gpt-4o", "--rpm", "100", "--json"))
    gateway.keys.append(made["key"])
    assert (made["max_budget"], made["budget_duration"], made["rpm_limit"]) == (20, "1mo", 100)
    answered(gateway, made["key"], 200)
    shown = twin(gateway, "key", "info", alias)
    assert alias in shown and made["key"] not in shown
    assert alias in twin(gateway, "key", "list", "--team", f"team-{alias}")
    twin(gateway, "key", "block", alias)
    deadline = time.monotonic() + 3
    while gateway.post(key=made["key"]).status_code == 200:
        assert time.monotonic() < deadline, "still good after it was blocked"
        time.sleep(0.05)
    twin(gateway, "key", "unblock", alias)
    answered(gateway, made["key"], 200)
    twin(gateway, "key", "delete", alias)
    assert "no key with the alias" in twin(gateway, "key", "info", alias, status=1)


def test_the_command_line_says_why_not(gateway):
    key = gateway.key()
    refused = run(gateway, "key", "create", "--url", gateway.url, "--master-key", key, status=1)
    assert "status 401" in refused or "status 403" in refused
    assert key not in refused
