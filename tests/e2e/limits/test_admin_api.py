"""The admin API through Envoy: the lives of keys, teams, users and the rest, and what is said of wrong calls."""

import hashlib
import json
import time

import httpx
import pytest
from asking import ask, expect
from harness import assert_envelope, in_threads
from holders import FACTS, call, name


def sha(key):
    return hashlib.sha256(key.encode()).hexdigest()


def raw(gateway, method, path, body=None, key=None, **headers):
    """An admin call with any body; its answer, whatever it is."""
    headers = {"authorization": f"Bearer {key or gateway.master_key}", **headers}
    content = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
    return gateway.http.request(method, path, content=content, headers=headers)


def soon(gateway, key, status, seconds=1.0):
    """Every worker of Envoy answers so within the time: each try has a connection of its own. Returns when they began to."""
    began, agreed, since = time.monotonic(), 0, 0
    while agreed < 8:
        with httpx.Client(base_url=gateway.url, trust_env=False, timeout=10) as client:
            seen = ask(gateway, "lim", key=key, client=client).status
        passed = time.monotonic() - began
        since = since if agreed else passed
        agreed = agreed + 1 if seen == status else 0
        if not agreed:
            assert passed < seconds, f"still {seen}, not {status}, after {seconds} s"
            time.sleep(0.02)
    return since


def audit(gateway, kind, id, **more):
    query = "&".join(f"{key}={value}" for key, value in {"table_name": kind, "object_id": id, "page_size": 100, **more}.items())
    return call(gateway, f"/audit?{query}", method="GET")["audit_logs"]


def test_the_life_of_a_key(gateway):
    alias = name("life")
    made = call(gateway, "/key/generate", {"key_alias": alias, "models": ["lim", "lim-other"], "rpm_limit": 1000, "duration": "1h"})
    key = made["key"]
    assert made["token"] == sha(key) and made["key_name"] == f"sk-...{key[-4:]}"
    expect(ask(gateway, "lim", key=key), 200)
    assert ask(gateway, "lim-cheap", key=key).status == 403

    call(gateway, "/key/update", {"key": key, "models": ["lim"], "metadata": {"owner": "search"}})
    time.sleep(1)
    assert ask(gateway, "lim-other", key=key).status == 403
    info = call(gateway, f"/key/info?key={key}", method="GET")
    assert info["key"] == sha(key) and info["info"]["metadata"] == {"owner": "search"}
    assert key not in json.dumps(info)

    rotated = call(gateway, "/key/regenerate", {"key": key, "grace_period": "4s"})
    new, until = rotated["key"], time.monotonic() + 4
    assert rotated["key_alias"] == alias and rotated["rpm_limit"] == 1000
    soon(gateway, new, 200)
    soon(gateway, key, 200)
    # Both are one key.
    call(gateway, "/key/block", {"key": new})
    soon(gateway, new, 401)
    soon(gateway, key, 401)
    call(gateway, "/key/unblock", {"key": sha(new)})
    soon(gateway, new, 200)
    time.sleep(max(0, until - time.monotonic()))
    soon(gateway, key, 401)
    soon(gateway, new, 200)

    assert call(gateway, f"/key/list?key_alias={alias}", method="GET")["keys"] == [sha(new)]
    assert call(gateway, f"/key/aliases?search={alias}", method="GET")["aliases"] == [alias]
    assert call(gateway, "/key/delete", {"key_aliases": [alias]}) == {"deleted_keys": [alias]}
    soon(gateway, new, 401)
    assert raw(gateway, "GET", f"/key/info?key={new}").status_code == 404

    rows = audit(gateway, "key", sha(new)) + audit(gateway, "key", sha(key))
    assert [row["action"] for row in rows][0] == "deleted"
    assert {"created", "updated", "rotated", "deleted"} <= {row["action"] for row in rows}
    text = json.dumps(call(gateway, "/audit?page_size=100", method="GET"))
    assert key not in text and new not in text and gateway.master_key not in text


@pytest.mark.parametrize("path, body", [("/key/block", {"key": "{}"}), ("/key/delete", {"keys": ["{}"]})])
def test_revocation_is_known_everywhere_within_a_second(gateway, path, body):
    key = gateway.key()
    soon(gateway, key, 200)
    call(gateway, path, json.loads(json.dumps(body).replace("{}", key)))
    seconds = soon(gateway, key, 401)
    FACTS.record("revocation", round(seconds * 1000), "a revoked key is refused by every worker after {value} ms")


def test_a_hash_opens_nothing(gateway):
    key = gateway.key()
    expect(ask(gateway, "lim", key=key), 200)
    for replayed in (sha(key), f"sk-{sha(key)}", sha(gateway.master_key)):
        assert ask(gateway, "lim", key=replayed).status == 401
        assert raw(gateway, "GET", "/key/info", key=replayed).status_code == 401


def test_the_life_of_a_team(gateway):
    team, ann = name("team"), name("ann")
    made = call(gateway, "/team/new", {"team_id": team, "team_alias": "Search", "models": ["lim"],
                                       "members_with_roles": [{"user_id": name("boss"), "role": "admin"}]})
    assert made["members_with_roles"][0]["role"] == "admin"
    added = call(gateway, "/team/member_add", {"team_id": team, "member": {"user_email": f"{ann}@example.org", "role": "user"},
                                               "max_budget_in_team": 2})
    user = added["updated_users"][0]["user_id"]
    again = raw(gateway, "POST", "/team/member_add", {"team_id": team, "member": {"user_id": user}})
    assert_envelope(again, 400, "team_member_already_in_team", param="member")
    key = gateway.key(team_id=team, user_id=user)
    robot = call(gateway, "/key/service-account/generate", {"team_id": team, "key_alias": name("robot")})["key"]
    soon(gateway, key, 200)
    assert ask(gateway, "lim-other", key=key).status == 403

    # PATCH goes through Envoy too.
    patched = raw(gateway, "PATCH", f"/team/{team}", {"team_alias": "Find"})
    assert patched.status_code == 200 and patched.json()["team_alias"] == "Find", patched.text
    call(gateway, "/team/model/add", {"team_id": team, "models": ["lim-other"]})
    time.sleep(1)
    expect(ask(gateway, "lim-other", key=key), 200)
    call(gateway, "/team/block", {"team_id": team})
    soon(gateway, key, 401)
    soon(gateway, robot, 401)
    call(gateway, "/team/unblock", {"team_id": team})
    soon(gateway, key, 200)

    info = call(gateway, f"/team/info?team_id={team}", method="GET")
    assert info["keys_total"] == 2 and len(info["team_memberships"]) == 2
    assert call(gateway, "/team/member_update", {"team_id": team, "user_id": user, "role": "admin"})["role"] == "admin"
    gone = call(gateway, "/team/member_delete", {"team_id": team, "user_id": user})
    assert gone["deleted_keys"] == [sha(key)]
    soon(gateway, key, 401)
    listed = call(gateway, f"/v2/team/list?team_id={team}", method="GET")
    assert (listed["total"], listed["teams"][0]["members_count"]) == (1, 1)
    assert call(gateway, "/team/delete", {"team_ids": [team]})["deleted_keys"] == 1
    soon(gateway, robot, 401)
    assert raw(gateway, "GET", f"/team/info?team_id={team}").status_code == 404
    assert_envelope(raw(gateway, "POST", "/key/generate", {"team_id": team}), 400, param="team_id")
    assert [row["action"] for row in audit(gateway, "team", team)][0] == "deleted"


def test_no_key_outlives_its_team(gateway):
    """Keys that are made while the team is deleted go with it, or are not made."""
    for _ in range(3):
        team = name("team")
        call(gateway, "/team/new", {"team_id": team})

        def act(index, team=team):
            with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as client:
                path, body = ("/key/generate", {"team_id": team}) if index else ("/team/delete", {"team_ids": [team]})
                return client.post(path, json=body, headers={"authorization": f"Bearer {gateway.master_key}"})

        deleted, *made = in_threads(9, act)
        assert deleted.status_code == 200, deleted.text
        for answer in made:
            assert answer.status_code in (200, 400, 409), answer.text
        assert call(gateway, f"/key/list?team_id={team}", method="GET")["total_count"] == 0
        for key in [answer.json()["key"] for answer in made if answer.status_code == 200][:1]:
            soon(gateway, key, 401)


def test_the_life_of_a_user(gateway):
    user = name("user")
    made = call(gateway, "/user/new", {"user_id": user, "user_email": f"{user}@Example.org", "models": ["lim"]})
    key = made["key"]
    assert made["user_email"] == f"{user}@example.org" and made["user_role"] == "internal_user"
    soon(gateway, key, 200)
    assert ask(gateway, "lim-other", key=key).status == 403
    call(gateway, "/user/update", {"user_id": user, "models": []})
    time.sleep(1)
    expect(ask(gateway, "lim-other", key=key), 200)
    taken = raw(gateway, "POST", "/user/new", {"user_email": f"{user}@example.org"})
    assert_envelope(taken, 400, param="user_email")
    info = call(gateway, f"/user/info?user_id={user}", method="GET")
    assert [row["token"] for row in info["keys"]] == [sha(key)]
    page = call(gateway, f"/user/list?user_email={user}@example.org&page_size=5", method="GET")
    assert (page["total"], page["users"][0]["key_count"]) == (1, 1)
    assert call(gateway, "/user/delete", {"user_ids": [user]}) == 1
    soon(gateway, key, 401)


@pytest.mark.parametrize("prefix", ["/customer", "/end_user"])
def test_the_life_of_a_customer(gateway, prefix):
    customer, key = name("customer"), gateway.key()
    call(gateway, f"{prefix}/new", {"user_id": customer, "alias": "Somebody", "max_budget": 10})
    expect(ask(gateway, "lim", key=key, user=customer), 200)
    call(gateway, f"{prefix}/update", {"user_id": customer, "default_model": "lim-other"})
    time.sleep(1)
    assert expect(ask(gateway, "lim", key=key, user=customer), 200).names == ["lim-other"]
    call(gateway, f"{prefix}/block", {"user_ids": [customer]})
    time.sleep(1)
    assert ask(gateway, "lim", key=key, user=customer).status in (400, 401, 403)
    assert ask(gateway, "lim", key=key, user=name("other")).status == 200
    call(gateway, f"{prefix}/unblock", {"user_ids": [customer]})
    time.sleep(1)
    expect(ask(gateway, "lim", key=key, user=customer), 200)
    info = call(gateway, f"{prefix}/info?end_user_id={customer}", method="GET")
    assert (info["alias"], info["max_budget"]) == ("Somebody", 10)
    call(gateway, f"{prefix}/delete", {"user_ids": [customer]})
    assert raw(gateway, "GET", f"{prefix}/info?end_user_id={customer}").status_code == 404


def test_the_life_of_an_organization(gateway):
    organization, user = name("org"), name("user")
    call(gateway, "/organization/new", {"organization_id": organization, "organization_alias": "Acme", "models": ["lim"]})
    patched = raw(gateway, "PATCH", "/organization/update", {"organization_id": organization, "organization_alias": "Acme Corp"})
    assert patched.status_code == 200 and patched.json()["organization_alias"] == "Acme Corp"
    call(gateway, "/organization/member_add", {"organization_id": organization, "member": {"user_id": user, "role": "internal_user"}})
    changed = raw(gateway, "PATCH", "/organization/member_update",
                  {"organization_id": organization, "user_id": user, "role": "org_admin"})
    assert changed.json()["user_role"] == "org_admin", changed.text
    team = call(gateway, "/team/new", {"organization_id": organization})["team_id"]
    key = gateway.key(team_id=team)
    soon(gateway, key, 200)
    info = call(gateway, f"/organization/info?organization_id={organization}", method="GET")
    assert [row["team_id"] for row in info["teams"]] == [team]
    gone = raw(gateway, "DELETE", "/organization/member_delete", {"organization_id": organization, "user_id": user})
    assert gone.status_code == 200, gone.text
    gone = raw(gateway, "DELETE", "/organization/delete", {"organization_ids": [organization]})
    assert gone.status_code == 200, gone.text
    soon(gateway, key, 401)
    assert raw(gateway, "GET", f"/team/info?team_id={team}").status_code == 404


def test_the_lives_of_budgets_and_tags(gateway):
    budget, tag = name("budget"), name("tag")
    call(gateway, "/budget/new", {"budget_id": budget, "rpm_limit": 0})
    key = gateway.key(budget_id=budget)
    assert ask(gateway, "lim", key=key).status == 429
    call(gateway, "/budget/update", {"budget_id": budget, "rpm_limit": 50})
    soon(gateway, key, 200)
    assert call(gateway, "/budget/info", {"budgets": [budget]})[0]["rpm_limit"] == 50
    fields = call(gateway, f"/budget/settings?budget_id={budget}", method="GET")
    assert {"field_name": "rpm_limit", "field_value": 50}.items() <= next(f for f in fields if f["field_name"] == "rpm_limit").items()
    assert call(gateway, "/budget/delete", {"id": budget})["detached"] == 1
    assert call(gateway, f"/key/info?key={key}", method="GET")["info"]["budget_id"] is None

    call(gateway, "/tag/new", {"name": tag, "description": "of a test", "rpm_limit": 0})
    tagged = {"metadata": {"tags": [tag]}}
    assert ask(gateway, "lim", key=key, **tagged).status == 429
    call(gateway, "/tag/update", {"name": tag, "rpm_limit": None})
    time.sleep(1)
    expect(ask(gateway, "lim", key=key, **tagged), 200)
    assert call(gateway, "/tag/info", {"names": [tag]})[tag]["description"] == "of a test"
    call(gateway, "/tag/delete", {"name": tag})
    assert raw(gateway, "POST", "/tag/info", {"names": [tag]}).status_code == 404


def test_models_and_providers(gateway):
    key = gateway.key(models=["lim"])
    assert [model["id"] for model in call(gateway, "/v1/models", method="GET")["data"]].count("lim") == 1
    own = raw(gateway, "GET", "/v1/models", key=key).json()
    assert [model["id"] for model in own["data"]] == ["lim"]
    assert raw(gateway, "GET", "/v1/models/lim-other", key=key).status_code == 404
    info = raw(gateway, "GET", "/model/info", key=key).json()["data"]
    assert [entry["model_name"] for entry in info] == ["lim"]
    assert "api_base" not in info[0]["litellm_params"] and "sk-upstream" not in json.dumps(info)
    assert call(gateway, "/provider/budgets", method="GET") == {"providers": {}}


@pytest.mark.parametrize("body, status, param", [
    ('{"models": [}', 400, "request_body"),
    ("[]", 400, "request_body"),
    ("nonsense", 400, "request_body"),
    (b"\xff\xfe", 400, "request_body"),
    ({"models": "lim"}, 422, "models"),
    ({"max_budget": "much"}, 422, "max_budget"),
    ({"rpm_limit": -1}, 400, "rpm_limit"),
    ({"budget_mode": "perhaps"}, 400, "budget_mode"),
    ({"duration": "tomorrow"}, 400, "duration"),
    ({"key": "short"}, 400, "key"),
    ({"team_id": "nowhere"}, 400, "team_id"),
    ({"key_alias": "x" * 300}, 400, "key_alias"),
])
def test_a_wrong_call_is_told_what_is_wrong(gateway, body, status, param):
    answer = raw(gateway, "POST", "/key/generate", body, **{"content-type": "application/json"})
    error = assert_envelope(answer, status, "invalid_request_error", param=param)
    assert f"`{param}`" in error["message"] or param == "request_body", error


def test_an_unknown_field_is_told(gateway):
    made = call(gateway, "/key/generate", {"rpm_limitt": 3})
    gateway.keys.append(made["key"])
    assert made["warnings"] == ["unknown, ignored: rpm_limitt"]
    answer = raw(gateway, "GET", "/key/list?colour=red")
    assert_envelope(answer, 400, "invalid_request_error", param="colour")


def test_a_body_beyond_the_bound(gateway):
    answer = raw(gateway, "POST", "/key/generate", b'{"metadata": "' + b"x" * (1024 * 1024) + b'"}')
    assert_envelope(answer, 413)


def test_wrong_turns(gateway):
    assert_envelope(raw(gateway, "GET", "/key/nothing"), 404)
    assert_envelope(raw(gateway, "GET", "/key/generate"), 405)
    assert_envelope(raw(gateway, "DELETE", "/team/new"), 405)
