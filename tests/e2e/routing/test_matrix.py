"""The table: how a provider fails x stream or not x what the operator configured -> client, attempts, ledger, breaker.

All requests of the table are made at once at the beginning; each test looks at one of them."""

import collections
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from harness import ANSWER, assert_envelope, content_of, marked
from project import wait_for
from world import add, ask, open_breakers, refused

# How it fails, what a client sees of it, does another deployment help, does it cool one of two deployments.
Case = collections.namedtuple("Case", "script status retriable cools code", defaults=[None])
CASES = {
    "401": Case("status:401", 401, True, True),
    "403": Case("status:403", 403, True, True),
    "404": Case("status:404", 404, True, True),
    "408": Case("status:408", 408, True, False),
    "429": Case("status:429", 429, True, True),
    "429-retry-after": Case("status:429,retry-after:20", 429, True, True),
    "429-quota": Case("error:quota", 429, True, True, "insufficient_quota"),
    "500": Case("status:500", 500, True, False),
    "502": Case("status:502", 502, True, False),
    "503": Case("status:503", 503, True, False),
    "529": Case("status:529", 529, True, False),
    "refused": Case(None, 503, True, False),
    "reset": Case("cut", 503, True, False),
    "timeout": Case("delay:9000", 504, True, False),
    "error-first": Case("error-at:0", 500, True, False),
    "empty": Case("empty", 502, True, False),
    "context": Case("error:context", 400, False, False, "context_length_exceeded"),
    "content": Case("error:content", 400, False, False, "content_policy_violation"),
    "bad-request": Case("error:badrequest", 400, False, False),
    "422": Case("status:422", 422, False, False),
}
# Not streamed, an error inside HTTP 200 is the provider's answer.
ONLY_STREAMED = {"error-first"}
SETTINGS = ["alone", "fallback", "pair"]
TABLE = [(name, stream, setting) for name in CASES for stream in (False, True) for setting in SETTINGS
         if stream or name not in ONLY_STREAMED]
LATE = {"error": "error-at:4", "cut": "cut-at:4"}


def group_of(name, stream, setting):
    return f"mx-{name}-{'stream' if stream else 'whole'}-{setting}"


def configure(config):
    add(config, "mx-ok", "mx-ok")
    for name, stream, setting in TABLE:
        group = group_of(name, stream, setting)
        own = {"timeout": 1} if name == "timeout" else refused() if name == "refused" else {}
        if setting == "pair":
            # Weight 0: the second is for when the first is gone, so that each test knows who is first.
            add(config, group, (f"{group}-a", {"weight": 1, **own}), (f"{group}-b", {"weight": 0}), num_retries=1,
                cooldown_time=60)
        else:
            add(config, group, (f"{group}-a", own), fallbacks=["mx-ok"] if setting == "fallback" else None)
    for what in LATE:
        add(config, f"mx-late-{what}", (f"mx-late-{what}-a", {"weight": 1}), (f"mx-late-{what}-b", {"weight": 0}),
            num_retries=2, fallbacks=["mx-ok"])


class Table:
    """Every request of the table, and what was seen of it afterwards."""

    def __init__(self, gateway):
        jobs = [(name, stream, setting) for name, stream, setting in TABLE]
        with ThreadPoolExecutor(16) as pool:
            made = pool.map(lambda job: self.one(gateway, *job), jobs)
            self.outcomes = dict(zip(jobs, made, strict=True))
        wanted = {outcome.call_id for outcome in self.outcomes.values()}

        def rows():
            found = collections.defaultdict(list)
            for row in gateway.rows():
                found[row["request_id"]].append(row)
            return found if wanted <= set(found) else None

        self.rows = wait_for("rows of the whole table", rows, 15, 0.3)
        self.open = open_breakers(gateway)
        self.names = {key: outcome.names for key, outcome in self.outcomes.items()}

    @staticmethod
    def one(gateway, name, stream, setting):
        group, script = group_of(name, stream, setting), CASES[name].script
        return ask(gateway, group, script and f"{group}-a={script}", stream, client=gateway.http)


@pytest.fixture(scope="module")
def table(gateway):
    return Table(gateway)


@pytest.mark.parametrize("name, stream, setting", TABLE, ids=[f"{n}-{'stream' if s else 'whole'}-{c}" for n, s, c in TABLE])
def test_table(gateway, table, name, stream, setting):
    case, group = CASES[name], group_of(name, stream, setting)
    outcome, names = table.outcomes[name, stream, setting], table.names[name, stream, setting]
    (row,) = table.rows[outcome.call_id]
    first = [] if name == "refused" else [f"{group}-a"]
    helped = case.retriable and setting != "alone"
    second = {"fallback": ["mx-ok"], "pair": [f"{group}-b"]}[setting] if helped else []
    # The client.
    if helped:
        assert outcome.status == 200, outcome
        text = content_of(outcome.text) if stream else outcome.answer.json()["choices"][0]["message"]["content"]
        assert text == ANSWER
        assert outcome.headers["x-litellm-model-id"] == second[0]
    else:
        error = assert_envelope(outcome.answer, case.status, code=case.code)
        assert "127.0.0.1" not in error["message"]
    retries, fallbacks = (int(outcome.headers[f"x-litellm-attempted-{what}"]) for what in ("retries", "fallbacks"))
    assert (retries, fallbacks) == (int(helped and setting == "pair"), int(helped and setting == "fallback")), outcome
    # The provider.
    assert names == first + second, outcome
    # The ledger.
    assert row["status"] == ("success" if helped else "failure"), row
    assert row["status_code"] == (200 if helped else case.status), row
    assert row["attempts"] == 1 + len(second), row
    assert row["fallbacks"] == fallbacks, row
    assert row["requested_model"] == group, row
    assert row["model_group"] == ("mx-ok" if helped and setting == "fallback" else group), row
    assert row["model_id"] == (second or [f"{group}-a"])[0], row
    assert (row["total_tokens"] > 0) == helped, row
    # The circuit breaker: one of two rests for what it said itself; a lone deployment never does.
    assert (f"{group}-a" in table.open) == (case.cools and setting == "pair")
    assert f"{group}-b" not in table.open


@pytest.mark.parametrize("what", LATE)
def test_after_the_first_event_nothing_is_replayed(gateway, what):
    """Two deployments, two retries and a fallback, and yet one attempt: the answer was committed."""
    group = f"mx-late-{what}"
    headers, mark = marked(f"{group}-a={LATE[what]}")
    text, broken = b"", False
    body = {"model": group, "messages": [{"role": "user", "content": "hello"}], "stream": True}
    sent = {"authorization": f"Bearer {gateway.default_key}", **headers}
    with gateway.http.stream("POST", "/v1/chat/completions", json=body, headers=sent) as answer:
        assert answer.status_code == 200
        call_id = answer.headers["x-litellm-call-id"]
        try:
            for piece in answer.iter_bytes():
                text += piece
        except httpx.HTTPError:
            broken = True
    assert content_of(text.decode()) == "Envoys carry letters"
    assert broken == (what == "cut") and (b'"error"' in text) == (what == "error")
    assert [entry["name"] for entry in gateway.arrived(mark)] == [f"{group}-a"]
    row = gateway.spend(call_id)
    assert (row["attempts"], row["fallbacks"], row["status"]) == (1, 0, "failure"), row


