"""Every report adds up to the same nano-dollars: what the rows say, which is what the provider's usage costs."""

import csv
import io
import json
import os
import subprocess
import time
import uuid
from urllib.parse import urlencode

import httpx
import pytest
from asking import ask, expect
from books import price, quiet
from harness import in_threads
from project import TARGET

# Requests: which of the two keys, model, prompt tokens, completion tokens.
REQUESTS = [(n % 2, "led" if n % 3 else "led-spare", 100 + 7 * n, 10 + n) for n in range(24)]


class Place:
    """A team of an organization with two keys of two users, and what was asked with them."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.name = uuid.uuid4().hex[:8]
        call = gateway.stack.call
        self.organization = call("POST", "/organization/new", {"organization_alias": f"org-{self.name}"})["organization_id"]
        self.team, self.tag, self.customer = f"team-{self.name}", f"tag-{self.name}", f"customer-{self.name}"
        call("POST", "/team/new", {"team_id": self.team, "team_alias": f"alias-{self.name}",
                                        "organization_id": self.organization})
        self.users, self.keys, self.hashes = [], [], []
        for at in range(2):
            user = f"user-{self.name}-{at}"
            call("POST", "/user/new", {"user_id": user, "user_role": "internal_user", "auto_create_key": False})
            call("POST", "/team/member_add", {"team_id": self.team, "member": {"user_id": user, "role": ["user", "admin"][at]}})
            key = call("POST", "/key/generate", {"user_id": user, "team_id": self.team, "key_alias": f"key-{self.name}-{at}"})
            self.users.append(user)
            self.keys.append(key["key"])
            self.hashes.append(key["token"])
        self.calls = in_threads(len(REQUESTS), self.one)
        quiet(gateway)

    def one(self, at):
        key, model, prompt, completion = REQUESTS[at]
        outcome = ask(self.gateway, model, f"{model}=usage:{prompt}/{completion}", key=self.keys[key], stream=at % 2 == 0,
                      user=self.customer, metadata={"tags": [self.tag]})
        return expect(outcome, 200).call_id

    def get(self, path, key=None, **params):
        params = {"start_date": day(-1), "end_date": day(1), **params}
        return self.gateway.stack.call("GET", f"{path}?{urlencode(params)}", key=key)


def day(offset):
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86_400 * offset))


@pytest.fixture(scope="module")
def place(gateway):
    return Place(gateway)


def wanted(key=None, model=None):
    return sum(price(name, prompt, completion) for at, name, prompt, completion in REQUESTS
               if key in (None, at) and model in (None, name))


def total(rows, name):
    return sum(row[name] for row in rows)


def test_rows_are_all_there(place):
    pages = [place.get("/spend/logs/v2", team_id=place.team, page=page, page_size=7) for page in (1, 2, 3, 4)]
    rows = [row for page in pages for row in page["data"]]
    assert {row["request_id"] for row in rows} == set(place.calls)
    assert [(page["total"], page["total_pages"], page["total_is_capped"]) for page in pages] == [(24, 4, False)] * 4
    assert total(rows, "spend_nanos") == wanted()
    assert {row["metadata"]["user_api_key_team_alias"] for row in rows} == {f"alias-{place.name}"}


@pytest.mark.parametrize("by", ["key", "user", "customer", "tag", "model", "team", "organization"])
def test_sums_by_anything_are_the_same(place, by):
    only = {"user": {}, "customer": {"customer_id": place.customer}, "tag": {"tag": place.tag},
            "organization": {"organization_id": place.organization}}.get(by, {"team_id": place.team})
    for period in ({}, {"group_by": "day"}, {"group_by": "month"}):
        report = place.get("/spend/report", by=by, limit=1000, **only, **period)
        rows = [row for row in report["results"] if by != "user" or row["id"] in place.users]
        assert sum(row["metrics"]["spend_nanos"] for row in rows) == wanted(), (by, period)
        if by == "key":
            assert {row["name"] for row in rows} == {f"key-{place.name}-{at}" for at in (0, 1)}


@pytest.mark.parametrize("kind, ids", [("team", "team_ids"), ("organization", "organization_ids"),
                                       ("customer", "end_user_ids"), ("tag", "tags")])
def test_daily_activity_is_the_same(place, kind, ids):
    name = getattr(place, kind)
    report = place.get(f"/{kind}/daily/activity", **{ids: name})
    assert report["metadata"]["total_spend_nanos"] == wanted()
    assert report["metadata"]["total_successful_requests"] == len(REQUESTS)
    for part in ("models", "model_groups", "providers", "endpoints", "api_keys", "entities"):
        spent = sum(entry["metrics"]["spend_nanos"] for row in report["results"] for entry in row["breakdown"][part].values())
        assert spent == wanted(), part


def test_litellms_reports_are_the_same(place):
    assert total(place.get("/team/spend/report", team_id=place.team), "total_cost_nanos") == wanted()
    assert total(place.get("/key/spend/report", api_key=place.keys[0]), "total_cost_nanos") == wanted(key=0)
    assert total(place.get("/user/spend/report", user_id=place.users[1]), "total_cost_nanos") == wanted(key=1)
    days = place.get("/global/spend/report", team_id=place.team)
    assert sum(total(row["teams"], "total_spend_nanos") for row in days) == wanted()
    summary = place.get("/spend/logs", api_key=place.hashes[0])
    assert total(summary, "spend_nanos") == wanted(key=0)
    tags = place.get("/global/spend/tags", tags=place.tag)["spend_per_tag"]
    assert total(tags, "spend_nanos") == wanted()
    customers = place.gateway.stack.call("POST", "/global/spend/end_users", {"api_key": place.hashes[1]})
    assert total([row for row in customers if row["end_user"] == place.customer], "total_spend_nanos") == wanted(key=1)
    everything = place.gateway.stack.call("GET", "/global/spend")["spend_nanos"]
    assert everything == place.get("/user/daily/activity")["metadata"]["total_spend_nanos"]
    assert everything == place.get("/global/activity")["sum_spend_nanos"]


def test_users_see_their_own(place):
    mine = place.get("/user/daily/activity", key=place.keys[0])
    assert mine["metadata"]["total_spend_nanos"] == wanted(key=0)
    # The second user is an admin of the team.
    for at, seen in ((0, wanted(key=0)), (1, wanted())):
        team = place.get("/team/daily/activity", key=place.keys[at], team_ids=place.team)
        assert team["metadata"]["total_spend_nanos"] == seen
        rows = place.get("/spend/logs/v2", key=place.keys[at], team_id=place.team, page_size=100)["data"]
        assert total(rows, "spend_nanos") == seen


def test_exports_are_the_same(place):
    url, headers = f"{place.gateway.url}/spend/export", {"authorization": f"Bearer {place.gateway.master_key}"}
    with httpx.Client(headers=headers, trust_env=False, timeout=30) as client:
        answer = {name: client.get(url, params={"format": name, "team_id": place.team}) for name in ("csv", "jsonl", "parquet")}
    assert [found.status_code for found in answer.values()] == [200] * 3
    rows = list(csv.DictReader(io.StringIO(answer["csv"].text)))
    assert (len(rows), sum(int(row["spend_nanos"]) for row in rows)) == (len(REQUESTS), wanted())
    assert total([json.loads(line) for line in answer["jsonl"].text.splitlines()], "spend_nanos") == wanted()
    assert answer["parquet"].content[:4] == answer["parquet"].content[-4:] == b"PAR1"


def attache(gateway, *arguments):
    env = {**os.environ, "ATTACHE_URL": gateway.url, "LITELLM_MASTER_KEY": gateway.master_key}
    done = subprocess.run([TARGET / "release/attache", "spend", *arguments], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_line_tells_the_same(place, tmp_path):
    gateway = place.gateway
    report = json.loads(attache(gateway, "top", "--by", "key", "--team", place.team, "--json"))
    assert report["total"]["spend_nanos"] == wanted()
    table = attache(gateway, "top", "--by", "key", "--team", place.team)
    assert f"key-{place.name}-0" in table and "100.0%" not in table
    assert place.calls[0] in attache(gateway, "logs", "--team", place.team, "--since", "1h")
    explained = attache(gateway, "explain", place.calls[3])
    _, model, prompt, completion = REQUESTS[3]
    assert f"{price(model, prompt, completion) / 1e9:.9f}".rstrip("0") in explained
    assert "come to this amount" in explained and "DO NOT" not in explained
    out = tmp_path / "spend.csv"
    attache(gateway, "export", "--out", str(out), "--team", place.team)
    assert len(list(csv.DictReader(out.open()))) == len(REQUESTS)
    assert f"alias-{place.name}" in attache(gateway, "report", "--by", "team", "--group-by", "month", "--team", place.team)
