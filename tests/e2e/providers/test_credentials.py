"""Credentials that are made and made anew: Entra, Google, AWS roles. The fake provider refuses any that is over."""

import time

import pytest
from harness import marked
from world import ACCESS_KEY, QUESTION, arrived, wait_until


def ask(gateway, model):
    headers, mark = marked()
    answer = gateway.client().chat.completions.create(
        model=model, messages=[{"role": "user", "content": QUESTION}], extra_headers=headers)
    assert answer.choices[0].message.content
    return arrived(gateway, mark)


def test_entra(gateway):
    entry = ask(gateway, "entra")
    assert "api-key" not in entry["headers"] and entry["headers"]["authorization"].startswith("...")
    asked = gateway.provider.requests(name="login")[0]
    assert asked["path"] == "/login/t-test/oauth2/v2.0/token"
    assert (asked["body"]["grant_type"], asked["body"]["client_secret"]) == ("client_credentials", "...7777")


def test_service_account(gateway):
    ask(gateway, "vertex")
    asked = gateway.provider.requests(name="google")
    assert asked and all(entry["status"] == 200 for entry in asked)
    # One token serves all deployments of the account.
    assert len(asked) < 5, [entry["path"] for entry in asked]


def test_a_role_is_assumed(gateway):
    entry = ask(gateway, "role")
    assert entry["headers"]["authorization"].startswith("AWS4-HMAC-SHA256 Credential=ASIA"), entry["headers"]
    assert entry["headers"]["x-amz-security-token"]
    asked = [entry for entry in gateway.provider.requests(name="sts") if entry["status"] == 200]
    assert asked[0]["body"]["Action"] == "AssumeRole"
    assert asked[0]["body"]["RoleSessionName"] == "attache-test"
    assert f"Credential={ACCESS_KEY}/" in asked[0]["headers"]["authorization"]


@pytest.mark.parametrize("model, upstream", [("vertex", "google"), ("role", "sts"), ("entra", "login")])
def test_tokens_are_made_anew_before_they_end(hasty, model, upstream):
    """Tokens that live for seconds: requests go on, none is refused, and several tokens were made."""
    end, served = time.monotonic() + 8, 0
    while time.monotonic() < end:
        ask(hasty, model)
        served += 1
        time.sleep(0.05)
    wait_until(lambda: len(hasty.provider.requests(name=upstream)) >= 2)
    assert served > 20
