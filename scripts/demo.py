#!/usr/bin/env python3
"""Shows the gateway at work with OpenAI's own SDK, and fails if anything is not as shown."""

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from openai import AuthenticationError, OpenAI, PermissionDeniedError, RateLimitError  # noqa: E402
from project import LOCAL, TARGET, Failure, main, say, wait_for  # noqa: E402
from stack import DEMO_CONFIG, Stack  # noqa: E402

MODELS = ["gpt-4o", "gpt-4o-azure", "gpt-4o-down", "text-embedding-3-small"]
QUESTION = [{"role": "user", "content": "What does an attaché do?"}]
# What an upstream does, and the script that makes the fake provider do it.
TROUBLES = [
    ("429 too many requests", "gpt-4o", "openai=status:429", False),
    ("500 server error", "gpt-4o", "openai=status:500", False),
    ("connection refused", "gpt-4o-down", "", False),
    ("an error event inside HTTP 200", "gpt-4o", "openai=error-at:0", True),
]
# Requests that are answered: chat, stream and embeddings, three within limits, and one for each trouble.
GOOD = 3 + 3 + len(TROUBLES)
STATS = ("attache.requests.", "attache.attempts.", "attache.tokens_", "attache.spend_", "attache.fallbacks.",
         "attache.first_event_failovers.", "attache.auth.")


def title(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def expect(what, seen, wanted):
    if seen != wanted:
        raise Failure(f"{what}: expected {wanted!r}, got {seen!r}")


def chat(client):
    title("Chat")
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=QUESTION)
    answer = raw.parse()
    print(f"  {answer.model}: {answer.choices[0].message.content}")
    print(f"  tokens {answer.usage.prompt_tokens} + {answer.usage.completion_tokens}, "
          f"call {raw.headers['x-litellm-call-id']}, deployment {raw.headers['x-litellm-model-id']}")
    expect("model of the answer", answer.model, "gpt-4o")
    expect("attempted fallbacks", raw.headers["x-litellm-attempted-fallbacks"], "0")


def stream(client):
    title("The same as a stream, shown as it arrives")
    pieces, times, began = [], [], time.monotonic()
    chunks = client.chat.completions.create(model="gpt-4o", messages=QUESTION, stream=True,
                                            extra_headers={"x-fake-script": "openai=chunk-delay:60"})
    print("  ", end="")
    for chunk in chunks:
        expect("a chunk without choices although no usage was asked for", len(chunk.choices), 1)
        if chunk.choices[0].delta.content:
            pieces.append(chunk.choices[0].delta.content)
            times.append(time.monotonic() - began)
            print(pieces[-1], end="", flush=True)
    print(f"\n  first piece after {times[0] * 1000:.0f} ms, last of {len(pieces)} after {times[-1] * 1000:.0f} ms")
    if times[-1] - times[0] < 0.3:
        raise Failure("the chunks came all at once")


def embeddings(client):
    title("Embeddings")
    answer = client.embeddings.create(model="text-embedding-3-small", input=["embassy", "consulate"],
                                      encoding_format="float")
    expect("vectors", len(answer.data), 2)
    print(f"  {len(answer.data)} vectors of {len(answer.data[0].embedding)} numbers, {answer.usage.total_tokens} tokens")


def refusals(client, url):
    title("Who may not")
    try:
        stranger = OpenAI(base_url=f"{url}/v1", api_key="sk-nobody-knows-this", max_retries=0)
        stranger.chat.completions.create(model="gpt-4o", messages=QUESTION)
        raise Failure("an unknown key was let in")
    except AuthenticationError as error:
        print(f"  unknown key            {error.status_code} {error.body['type']}: {error.body['message']}")
    try:
        client.chat.completions.create(model="o3", messages=QUESTION)
        raise Failure("a model that the key may not use answered")
    except PermissionDeniedError as error:
        print(f"  model not for this key {error.status_code} {error.body['type']}: {error.body['message']}")


def limits(stack):
    title("Limits and budgets")
    team = stack.call("POST", "/team/new", {"team_alias": "search", "rpm_limit": 2})["team_id"]
    left = 60 - time.time() % 60
    if left < 3:
        time.sleep(left)
    limited = OpenAI(base_url=f"{stack.url}/v1", api_key=stack.new_key(team_id=team), max_retries=0)
    for _ in range(2):
        raw = limited.chat.completions.with_raw_response.create(model="gpt-4o", messages=QUESTION)
        print(f"  team search, rpm_limit 2   200, {raw.headers['x-ratelimit-remaining-requests']} requests left, "
              f"reset in {raw.headers['x-ratelimit-reset-requests']}")
    refused("team search, rpm_limit 2", limited, "throttling_error")
    poor = OpenAI(base_url=f"{stack.url}/v1", api_key=stack.new_key(max_budget=0.00001, budget_duration="1d"), max_retries=0)
    poor.chat.completions.create(model="gpt-4o", messages=QUESTION)
    print("  key, $0.00001 a day        200, as long as anything is left")
    wait_for("usage handed over", lambda: stack.pending() == 0, 5)
    time.sleep(0.3)
    refused("key, $0.00001 a day", poor, "budget_exceeded")


def refused(who, client, kind):
    try:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    except RateLimitError as error:
        expect(f"{who}: type of the refusal", error.body["type"], kind)
        print(f"  {who:26} {error.status_code} {kind}, retry-after {error.response.headers['retry-after']}: {error.body['message']}")
    else:
        raise Failure(f"{who}: a request beyond the limit was admitted")


def fallbacks(client):
    title("When the first provider fails, the next one answers")
    for trouble, model, script, streaming in TROUBLES:
        began = time.monotonic()
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=QUESTION, stream=streaming, extra_headers={"x-fake-script": script} if script else {})
        answer = raw.parse()
        if streaming:
            chunks = list(answer)
            content = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            answered = chunks[-1].model
        else:
            content, answered = answer.choices[0].message.content, answer.model
        expect(f"{trouble}: model of the answer", answered, model)
        expect(f"{trouble}: fallbacks", raw.headers["x-litellm-attempted-fallbacks"], "1")
        if not content.startswith("Envoys carry"):
            raise Failure(f"{trouble}: the answer is {content!r}")
        print(f"  {trouble:32} -> answered all the same in {(time.monotonic() - began) * 1000:.0f} ms, "
              f"x-litellm-attempted-fallbacks: {raw.headers['x-litellm-attempted-fallbacks']}")


def spend(stack, rows_wanted):
    title("The books (GET /spend/logs)")

    def complete():
        rows = stack.call("GET", "/spend/logs")
        return rows if sum(row["status"] == "success" for row in rows) >= rows_wanted else None

    rows = wait_for(f"{rows_wanted} spend rows", complete, 15, 0.2)
    rows.sort(key=lambda row: row["startTime"])
    print(f"  {'model group':24}{'answered by':26}{'status':10}{'prompt':>7}{'completion':>12}{'cost':>14}")
    for row in rows:
        cost = "unpriced" if row["spend"] is None else f"${row['spend']:.7f}"
        print(f"  {row['model_group'] or '-':24}{row['model'] or '-':26}{row['status'] or '-':10}"
              f"{row['prompt_tokens']:>7}{row['completion_tokens']:>12}{cost:>14}")
    good = [row for row in rows if row["status"] == "success"]
    expect("successful rows", len(good), rows_wanted)
    for row in good:
        if not row["prompt_tokens"] or not row["spend"]:
            raise Failure(f"a row without tokens or cost: {row}")


def reports(stack):
    title("Who spent what, and why (attache spend)")

    def attache(*arguments):
        env = {**os.environ, "ATTACHE_URL": stack.url, "LITELLM_MASTER_KEY": stack.master_key}
        done = subprocess.run([TARGET / "release/attache", "spend", *arguments], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"attache spend {arguments[0]}: {done.stderr}")
        print(f"  $ attache spend {' '.join(arguments)}")
        print("".join(f"    {line}\n" for line in done.stdout.splitlines()))
        return done.stdout

    rows = [row for row in stack.call("GET", "/spend/logs") if row["spend_nanos"]]
    top = attache("top", "--by", "key", "--since", "1d")
    expect("keys in the table", "demo" in top, True)
    fallen = next(row for row in rows if row["fallbacks"])
    bill = attache("explain", fallen["request_id"])
    expect("the bill adds up", "come to this amount" in bill and "DO NOT" not in bill, True)


def stats(stack):
    title("What an SRE sees (curl 'localhost:9901/stats?filter=attache')")
    seen = {name.removeprefix("wasmcustom."): value for name, value in stack.stats("attache").items()}
    for name in sorted(seen):
        if seen[name] and name.startswith(STATS):
            print(f"  {name}: {seen[name]}")

    def total(*parts):
        return sum(value for name, value in seen.items() if all(part in name for part in parts))

    expect("requests that succeeded", total("attache.requests.", "outcome.success"), GOOD)
    expect("fallbacks", total("attache.fallbacks."), len(TROUBLES))
    expect("failovers on the first event", total("attache.first_event_failovers."), 1)
    expect("requests refused to unknown keys", total("attache.auth.result.unknown"), 1)


def demo():
    began = time.monotonic()
    say("starting a fake provider, the sidecar and Envoy")
    with Stack(DEMO_CONFIG, LOCAL / "run" / "demo") as stack:
        say(f"up after {time.monotonic() - began:.1f} s on {stack.url}, logs in {stack.folder}")
        key = stack.new_key(key_alias="demo", models=MODELS, duration="1h")
        client = OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0, timeout=20)
        chat(client)
        stream(client)
        embeddings(client)
        refusals(client, stack.url)
        limits(stack)
        fallbacks(client)
        spend(stack, rows_wanted=GOOD)
        reports(stack)
        stats(stack)
        print()
        say("draining and stopping")
    say(f"all as it should be, {time.monotonic() - began:.1f} s. `make run` keeps the gateway up.")


if __name__ == "__main__":
    main(demo)
