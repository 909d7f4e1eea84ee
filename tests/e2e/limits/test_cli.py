"""Keys, teams and users from the command line, through a running gateway."""

import json

from commands import answered, run, twin
from harness import assert_envelope, chat
from holders import name
from stack import free_address


def test_the_life_of_a_key(gateway):
    alias, team = name("ci"), name("search")
    team_id = json.loads(twin(gateway, "team", "create", team, "--models", "lim,lim-other", "--json"))["team_id"]
    text = twin(gateway, "key", "create", "--team", team, "--alias", alias, "--budget", "20/month", "--models", "lim",
                "--rpm", "100")
    shown = dict(line.split(maxsplit=1) for line in text.splitlines() if len(line.split(maxsplit=1)) == 2)
    key = shown["key"]
    gateway.keys.append(key)
    assert key.startswith("sk-") and len(key) > 20 and text.count(key) == 1
    assert "it is not shown again" in text
    assert (shown["alias"], shown["team"], shown["models"], shown["rpm"]) == (alias, team_id, "lim", "100")
    assert shown["spend"] == "$0 of $20 per 1mo"
    answered(gateway, key, 200)
    assert_envelope(gateway.post(chat("lim-other"), key=key), 403, "key_model_access_denied")

    listed = twin(gateway, "key", "list", "--team", team)
    head, row, total = (line.split() for line in listed.splitlines())
    assert head[:4] == ["KEY", "ALIAS", "HASH", "TEAM"] and total[:2] == ["1", "keys,"]
    assert row[:2] == [f"sk-...{key[-4:]}", alias] and row[-1] == "active"
    assert key not in listed
    for given in (alias, key, shown["hash"]):
        info = json.loads(twin(gateway, "key", "info", given, "--json"))["info"]
        assert (info["key_alias"], info["max_budget"], info["budget_duration"]) == (alias, 20, "1mo")
    assert key not in twin(gateway, "key", "info", key)

    assert "200" in twin(gateway, "key", "update", alias, "--rpm", "200", "--models", "lim,lim-other")
    answered(gateway, key, 200, "lim-other")
    assert "is blocked" in twin(gateway, "key", "block", key)
    answered(gateway, key, 401)
    twin(gateway, "key", "unblock", alias)
    answered(gateway, key, 200)

    rotated = json.loads(twin(gateway, "key", "rotate", alias, "--json"))["key"]
    gateway.keys.append(rotated)
    answered(gateway, rotated, 200)
    answered(gateway, key, 401)
    other = json.loads(twin(gateway, "key", "rotate", alias, "--grace", "1h", "--json"))["key"]
    gateway.keys.append(other)
    answered(gateway, other, 200)
    answered(gateway, rotated, 200)

    assert twin(gateway, "key", "delete", alias).strip() == "1 deleted"
    answered(gateway, other, 401)
    assert "no key with the alias" in twin(gateway, "key", "info", alias, status=1)


def test_the_life_of_a_team(gateway):
    team, user = name("team"), name("user")
    twin(gateway, "user", "create", user, "--email", f"{user}@example.com", "--budget", "5/day")
    assert "$0 of $5 per 1d" in twin(gateway, "user", "info", user)
    assert user in twin(gateway, "user", "list", "--size", "100")
    assert "of $7" in twin(gateway, "user", "update", user, "--budget", "7/day")
    twin(gateway, "team", "create", team, "--budget", "500/month")
    assert "$0 of $500 per 1mo" in twin(gateway, "team", "info", team)
    twin(gateway, "team", "update", team, "--rpm", "0")
    key = json.loads(twin(gateway, "key", "create", "--team", team, "--json"))["key"]
    gateway.keys.append(key)
    assert answered(gateway, key, 429).json()["error"]["entity_type"] == "team"
    twin(gateway, "team", "update", team, "--rpm", "100")
    answered(gateway, key, 200)
    assert "(admin)" in _with_member(gateway, team, user)
    twin(gateway, "team", "block", team)
    assert "blocked" in twin(gateway, "team", "info", team)
    assert answered(gateway, key, 401).json()["error"]["code"] == "blocked"
    twin(gateway, "team", "unblock", team)
    answered(gateway, key, 200)
    assert team in twin(gateway, "team", "list")
    twin(gateway, "team", "delete", team)
    assert "there is no team" in twin(gateway, "team", "info", team, status=1)
    answered(gateway, key, 401)
    twin(gateway, "user", "delete", user)
    assert "status 404" in twin(gateway, "user", "info", user, status=1)


def _with_member(gateway, team, user):
    twin(gateway, "team", "add-member", team, user, "--role", "admin")
    text = twin(gateway, "team", "info", team)
    twin(gateway, "team", "remove-member", team, user)
    assert user not in twin(gateway, "team", "info", team)
    return text


def test_what_goes_wrong_is_said(gateway):
    made = ("key", "create", "--json")
    assert "there is no team with the id or the alias \"nobody\"" in twin(gateway, *made, "--team", "nobody", status=1)
    assert "no window" in twin(gateway, *made, "--budget", "20/fortnight", status=2)
    assert "no amount of dollars" in twin(gateway, *made, "--budget", "lots", status=2)
    assert "nothing to change" in twin(gateway, "key", "update", gateway.default_key, status=1)
    alias = name("twice")
    gateway.key(key_alias=alias)
    assert "`key_alias` exists" in twin(gateway, *made, "--alias", alias, status=1)

    wrong, nowhere = "sk-wrong-master-0123456789", f"http://{free_address()}"
    text = run(gateway, *made, "--url", gateway.url, "--master-key", wrong, status=1)
    assert "status 401" in text and wrong not in text
    text = run(gateway, *made, "--url", gateway.url, "--master-key", gateway.default_key, status=1)
    assert ("status 401" in text or "status 403" in text) and gateway.default_key not in text
    text = run(gateway, *made, "--url", nowhere, status=1)
    assert f"cannot ask {nowhere}" in text and gateway.master_key not in text
    text = run(gateway, *made, "--url", gateway.url, status=1, LITELLM_MASTER_KEY="")
    assert "--master-key" in text and "--config" in text
    # The master key of the configuration, over the sidecar's own socket.
    socket = f"unix:{gateway.stack.socket}"
    key = json.loads(run(gateway, *made, "--url", socket, "--config", gateway.stack.config))["key"]
    gateway.keys.append(key)
    answered(gateway, key, 200)
