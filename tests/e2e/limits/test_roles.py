"""Who may call what, through Envoy. That every route follows docs/admin-api.md is tested beside the code; here the roles are
made, changed and taken away as an operator would."""

import time
import types

import pytest
from asking import ask, expect
from harness import assert_envelope
from holders import call, name
from test_admin_api import audit, raw, sha, soon


@pytest.fixture(scope="module")
def people(gateway):
    """An organization with a team, and somebody of each role: ids and keys."""
    made = types.SimpleNamespace(organization=name("org"), team=name("team"), other=name("team"), keys={}, ids={})
    call(gateway, "/organization/new", {"organization_id": made.organization, "organization_alias": "Acme"})
    call(gateway, "/team/new", {"team_id": made.team, "organization_id": made.organization, "rpm_limit": 1000})
    call(gateway, "/team/new", {"team_id": made.other})
    for who, role in [("root", "proxy_admin"), ("viewer", "proxy_admin_viewer"), ("orga", "internal_user"),
                      ("boss", "internal_user"), ("ann", "internal_user"), ("eve", "internal_user_viewer")]:
        user = call(gateway, "/user/new", {"user_id": name(who), "user_role": role})
        made.ids[who], made.keys[who] = user["user_id"], user["key"]
    for who, role in [("boss", "admin"), ("ann", "user"), ("eve", "user")]:
        call(gateway, "/team/member_add", {"team_id": made.team, "member": {"user_id": made.ids[who], "role": role}})
    call(gateway, "/organization/member_add",
         {"organization_id": made.organization, "member": {"user_id": made.ids["orga"], "role": "org_admin"}})
    made.keys["nobody"] = gateway.key()
    return made


def post(gateway, people, who, path, body):
    return raw(gateway, "POST", path, body, key=people.keys[who])


@pytest.mark.parametrize("who, own, of_team, rename, limit", [
    ("root", 200, 200, 200, 200), ("viewer", 403, 403, 403, 403), ("orga", 200, 200, 200, 200),
    ("boss", 200, 200, 200, 403), ("ann", 200, 403, 403, 403), ("eve", 403, 403, 403, 403), ("nobody", 403, 403, 403, 403),
])
def test_who_makes_keys_and_changes_the_team(gateway, people, who, own, of_team, rename, limit):
    answers = [
        post(gateway, people, who, "/key/generate", {}),
        post(gateway, people, who, "/key/generate", {"team_id": people.team}),
        post(gateway, people, who, "/team/update", {"team_id": people.team, "team_alias": "Search"}),
        post(gateway, people, who, "/team/update", {"team_id": people.team, "rpm_limit": 1000, "tpm_limit": 1000000}),
    ]
    # A limit that somebody before set already is no change.
    call(gateway, "/team/update", {"team_id": people.team, "tpm_limit": None})
    assert [answer.status_code for answer in answers] == [own, of_team, rename, limit]
    for answer in answers:
        if answer.status_code == 403:
            assert_envelope(answer, 403)
        elif "key" in answer.json():
            gateway.keys.append(answer.json()["key"])


def test_a_viewer_sees_everything_and_changes_nothing(gateway, people):
    for path in ("/key/list", "/team/list", "/user/list", "/customer/list", "/organization/list", "/budget/list", "/tag/list",
                 "/audit", "/global/spend", f"/team/info?team_id={people.other}", "/provider/budgets", "/health"):
        assert raw(gateway, "GET", path, key=people.keys["viewer"]).status_code == 200, path
    call(gateway, "/team/member_add", {"team_id": people.other, "member": {"user_id": people.ids["viewer"], "role": "admin"}})
    for path, body in [("/key/generate", {"team_id": people.other}), ("/team/update", {"team_id": people.other, "team_alias": "x"}),
                       ("/customer/new", {"user_id": "c"}), ("/budget/new", {}), ("/key/delete", {"keys": [people.keys["ann"]]}),
                       ("/user/update", {"user_id": people.ids["viewer"], "user_role": "proxy_admin"})]:
        assert_envelope(post(gateway, people, "viewer", path, body), 403)


def test_admins_keep_to_what_is_theirs(gateway, people):
    elsewhere = gateway.key(team_id=people.other)
    for who in ("boss", "orga"):
        assert_envelope(post(gateway, people, who, "/key/block", {"key": elsewhere}), 403)
        assert_envelope(post(gateway, people, who, "/team/member_add", {"team_id": people.other, "member": {"user_id": "x"}}), 403)
        info = raw(gateway, "GET", f"/key/info?key={elsewhere}", key=people.keys[who])
        assert_envelope(info, 403)
    ours = gateway.key(team_id=people.team)
    assert post(gateway, people, "boss", "/key/block", {"key": ours}).status_code == 200
    assert post(gateway, people, "orga", "/key/unblock", {"key": ours}).status_code == 200
    row = audit(gateway, "key", sha(ours))[0]
    assert (row["changed_by"], row["changed_by_api_key"]) == (people.ids["orga"], sha(people.keys["orga"]))


def test_a_key_does_not_loosen_itself(gateway, people):
    strict = gateway.key(user_id=people.ids["ann"], rpm_limit=500, models=["lim"])
    for change in ({"rpm_limit": 501}, {"rpm_limit": None}, {"models": []}, {"temp_budget_increase": 1}, {"spend": 0},
                   {"team_id": people.team}):
        for key in (strict, people.keys["ann"]):
            assert_envelope(raw(gateway, "POST", "/key/update", {"key": strict, **change}, key=key), 403)
    assert raw(gateway, "POST", "/key/update", {"key": strict, "rpm_limit": 400}, key=strict).status_code == 200
    rotated = raw(gateway, "POST", "/key/regenerate", {}, key=strict)
    assert rotated.status_code == 200, rotated.text
    gateway.keys.append(rotated.json()["key"])
    soon(gateway, strict, 401)
    expect(ask(gateway, "lim", key=rotated.json()["key"]), 200)


def test_a_key_for_somebody_else_is_no_way_in(gateway, people):
    made = post(gateway, people, "boss", "/key/generate", {"team_id": people.team, "user_id": people.ids["root"]})
    assert made.status_code == 200, made.text
    key = made.json()["key"]
    gateway.keys.append(key)
    expect(ask(gateway, "lim", key=key), 200)
    assert raw(gateway, "GET", "/key/info", key=key).status_code == 200
    for path in ("/key/list", "/audit", "/user/list"):
        assert_envelope(raw(gateway, "GET", path, key=key), 403)
    assert_envelope(raw(gateway, "POST", "/key/generate", {}, key=key), 403)
    wider = {"team_id": people.team, "user_id": people.ids["root"], "allowed_routes": ["management_routes"]}
    assert_envelope(post(gateway, people, "boss", "/key/generate", wider), 403)


def test_the_team_permits_its_members(gateway, people):
    assert_envelope(post(gateway, people, "ann", "/key/generate", {"team_id": people.team}), 403)
    permit = {"team_id": people.team, "team_member_permissions": ["/key/generate", "/key/list"]}
    assert post(gateway, people, "boss", "/team/permissions_update", permit).status_code == 200
    made = post(gateway, people, "ann", "/key/generate", {"team_id": people.team})
    assert made.status_code == 200, made.text
    assert made.json()["user_id"] == people.ids["ann"]
    assert_envelope(post(gateway, people, "eve", "/key/generate", {"team_id": people.team}), 403)
    listed = raw(gateway, "GET", f"/key/list?team_id={people.team}", key=people.keys["ann"])
    assert listed.json()["total_count"] >= 1
    call(gateway, "/team/permissions_update", {"team_id": people.team, "team_member_permissions": []})


def test_a_role_that_is_taken_away_is_gone(gateway, people):
    user = call(gateway, "/user/new", {"user_id": name("admin"), "user_role": "proxy_admin"})
    assert raw(gateway, "GET", "/audit", key=user["key"]).status_code == 200
    call(gateway, "/user/update", {"user_id": user["user_id"], "user_role": "internal_user"})
    assert_envelope(raw(gateway, "GET", "/audit", key=user["key"]), 403)
    call(gateway, "/user/update", {"user_id": user["user_id"], "blocked": True})
    time.sleep(1)
    assert raw(gateway, "GET", "/key/list", key=user["key"]).status_code in (401, 403)
    assert ask(gateway, "lim", key=user["key"]).status in (401, 403)


def test_a_keys_routes_narrow_its_role(gateway, people):
    root = {"user_id": people.ids["root"]}
    reads = gateway.key(key_type="read_only", **root)
    assert raw(gateway, "GET", "/team/list", key=reads).status_code == 200
    assert_envelope(raw(gateway, "POST", "/team/new", {}, key=reads), 403)
    assert ask(gateway, "lim", key=reads).status == 403
    llm = gateway.key(key_type="llm_api", **root)
    expect(ask(gateway, "lim", key=llm), 200)
    assert_envelope(raw(gateway, "GET", "/team/list", key=llm), 403)
    managing = gateway.key(key_type="management", **root)
    made = raw(gateway, "POST", "/key/generate", {}, key=managing)
    assert made.status_code == 200
    gateway.keys.append(made.json()["key"])
    assert ask(gateway, "lim", key=managing).status == 403
