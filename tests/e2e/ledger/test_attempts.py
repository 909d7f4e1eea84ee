"""What each attempt cost: fallbacks, errors after usage, providers without usage, clients that leave."""

import uuid

import httpx
import pytest
from asking import ask, expect
from books import PRICES, database, price, quiet, row_of
from harness import chat, marked


def lines(gateway, outcome, row):
    """What each attempt (from 0) cost, as the admin API tells it: it adds up to the row, and each bill to its line."""
    [told] = gateway.stack.call("GET", f"/spend/logs?request_id={outcome.call_id}")
    assert sum(line["spend_nanos"] for line in told["lines"]) == row["cost_nanos"], told
    for line in told["lines"]:
        factors = {factor["item"]: factor["quantity"] for factor in line["bill"]["factors"]}
        assert factors == {"in": line["prompt_tokens"], "out": line["completion_tokens"]}, line
        assert line["recomputed"] and line["bill"]["total_nanos"] == line["spend_nanos"], line
        assert line["spend_nanos"] == price(line["model_id"], line["prompt_tokens"], line["completion_tokens"]), line
        assert line["model_id"] in PRICES
    return [(line["attempt"], line["model_id"], line["estimated"]) for line in told["lines"]]


@pytest.mark.parametrize("stream", [False, True])
def test_the_provider_counts(gateway, stream):
    outcome = expect(ask(gateway, "led", "led=usage:1234/567", stream=stream), 200)
    row = row_of(gateway, outcome)
    assert (row["prompt_tokens"], row["completion_tokens"], row["estimated"]) == (1234, 567, False)
    assert row["cost_nanos"] == price("led", 1234, 567)
    assert lines(gateway, outcome, row) == [(0, "led", False)]


def test_a_fallback_costs_what_answered(gateway):
    """The first deployment fails without usage; only the second one is paid for."""
    outcome = expect(ask(gateway, "led-broken", "led-broken=status:500;led-spare=usage:100/20"), 200, fallbacks=1)
    row = row_of(gateway, outcome)
    assert row["cost_nanos"] == price("led-spare", 100, 20)
    assert (row["attempts"], row["fallbacks"], row["model_group"]) == (2, 1, "led-spare")
    assert lines(gateway, outcome, row) == [(1, "led-spare", False)]


def test_an_error_after_usage_is_paid_for(gateway):
    outcome = expect(ask(gateway, "led", "led=usage:300/40,error-at:99", stream=True), 200)
    row = row_of(gateway, outcome)
    assert row["outcome"] == "failure"
    assert row["cost_nanos"] == price("led", 300, 40)
    assert not row["estimated"]
    assert lines(gateway, outcome, row) == [(0, "led", False)]


@pytest.mark.parametrize("stream", [False, True])
def test_without_usage_it_is_an_estimate(gateway, stream):
    outcome = expect(ask(gateway, "led", "led=no-usage", stream=stream), 200)
    row = row_of(gateway, outcome)
    assert row["estimated"]
    assert row["prompt_tokens"] > 0 and row["completion_tokens"] > 0
    assert row["cost_nanos"] == price("led", row["prompt_tokens"], row["completion_tokens"])
    assert lines(gateway, outcome, row) == [(0, "led", True)]


def test_a_client_that_leaves_before_any_answer_pays_for_its_prompt(gateway):
    headers = {"authorization": f"Bearer {gateway.default_key}", **marked("led=delay:3000")[0]}
    user = f"impatient-{uuid.uuid4()}"
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=1) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=chat("led", user=user), headers=headers)
    quiet(gateway)
    [row] = database(gateway).query(f"SELECT * FROM attache_spend WHERE end_user = '{user}'")
    assert (row["outcome"], row["status"], row["completion_tokens"]) == ("aborted", 0, 0) and row["estimated"]
    assert row["prompt_tokens"] > 0
    assert row["cost_nanos"] == price("led", row["prompt_tokens"], 0)


def test_a_client_that_leaves_pays_an_estimate(gateway):
    headers = {"authorization": f"Bearer {gateway.default_key}", **marked("led=chunk-delay:30,chunks:1000")[0]}
    with httpx.Client(base_url=gateway.url, trust_env=False) as client, \
            client.stream("POST", "/v1/chat/completions", json=chat("led", stream=True), headers=headers) as answer:
        events = answer.iter_lines()
        for _ in range(12):
            next(events)

    class Left:
        call_id = answer.headers["x-litellm-call-id"]

    row = row_of(gateway, Left)
    assert row["outcome"] == "aborted" and row["estimated"]
    assert 0 < row["completion_tokens"] < 100
    assert row["cost_nanos"] == price("led", row["prompt_tokens"], row["completion_tokens"])
    assert lines(gateway, Left, row) == [(0, "led", True)]
