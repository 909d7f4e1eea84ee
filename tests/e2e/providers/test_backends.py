"""A request per provider and dialect on Redis and Postgres, with its row in the ledger."""

import anthropic
import pytest
from harness import marked
from world import PROVIDERS, QUESTION, TEXT, USAGE, arrived


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider(replicated, provider):
    headers, mark = marked(f"{provider}=usage:{USAGE[0]}/{USAGE[1]}")
    raw = replicated.client().chat.completions.with_raw_response.create(
        model=provider, messages=[{"role": "user", "content": QUESTION}], extra_headers=headers)
    assert raw.parse().choices[0].message.content == TEXT
    arrived(replicated, mark)
    row = replicated.spend(raw.headers["x-litellm-call-id"])
    assert (row["prompt_tokens"], row["completion_tokens"], row["model_id"]) == (*USAGE, provider)


def test_messages(replicated):
    client = anthropic.Anthropic(base_url=replicated.url, api_key=replicated.default_key, max_retries=0)
    with client.messages.stream(model="gemini", max_tokens=50,
                                messages=[{"role": "user", "content": QUESTION}]) as stream:
        assert "".join(stream.text_stream) == TEXT
