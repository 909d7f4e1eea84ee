"""What the suites share: a gateway per store backend, SDK clients, and ways to look at what happened."""

import json
import re
import sys
import threading
import uuid
from pathlib import Path

import httpx
import openai
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from project import LOCAL, wait_for  # noqa: E402
from servers import Postgres, Redis  # noqa: E402
from stack import Stack  # noqa: E402

BACKENDS = ["embedded", "redis+postgres"]
QUESTION = [{"role": "user", "content": "What does an attaché do?"}]
ANSWER = "Envoys carry letters, attachés know what is in them. \U0001f4ee"
UPSTREAM_KEYS = ["sk-upstream-openai-11112222", "azure-upstream-33334444"]
MEBIBYTE = 1024 * 1024
BODY_LIMIT = 20 * MEBIBYTE


def deployment(group, upstream, model="openai/gpt-4o", info=None, **params):
    """One entry of model_list: `upstream` is the name under which the fake provider plays it."""
    azure = model.startswith("azure/")
    defaults = {"model": model, "api_base": "${FAKE_PROVIDER_URL}/" + upstream + ("" if azure else "/v1"),
                "api_key": UPSTREAM_KEYS[1 if azure else 0]}
    if azure:
        defaults["api_version"] = "2024-10-21"
    entry = {"model_name": group, "litellm_params": {**defaults, **params}}
    return {**entry, "model_info": info} if info else entry


REFUSED = "http://127.0.0.1:9/v1"


def base_config():
    """Groups for every case; each upstream has a name of its own, so that scripts can be told apart."""
    return {
        "model_list": [
            deployment("gpt-4o", "one"),
            deployment("gpt-4o-mini", "two", "openai/gpt-4o-mini"),
            deployment("gpt-4o-azure", "azure", "azure/gpt-4o"),
            deployment("solo", "solo", timeout=30),
            deployment("down", "down", api_base=REFUSED),
            deployment("dead", "dead", api_base=REFUSED),
            deployment("slow", "slow", timeout=1, stream_timeout=1),
            deployment("stalls", "stalls", timeout=10, stream_timeout=0.5),
            deployment("cools", "cools", info={"allowed_fails": 1, "cooldown_time": 2}),
            deployment("gpt-3.5-turbo-instruct", "one", "openai/gpt-3.5-turbo-instruct"),
            deployment("text-embedding-3-small", "one", "openai/text-embedding-3-small"),
            deployment("reserved", "one"),
        ],
        "router_settings": {
            "num_retries": 0, "allowed_fails": 100000,
            "fallbacks": [{"gpt-4o": ["gpt-4o-mini", "gpt-4o-azure"]}, {"down": ["gpt-4o-mini"]},
                          {"stalls": ["gpt-4o-mini"]}],
        },
        "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "proxy_batch_write_at": 1,
                             "max_request_size_mb": 20},
    }


class Gateway:
    """A stack with its stores, and what tests do with it."""

    def __init__(self, name, backend, change=None, concurrency=2, config=None, sibling=None, log=False, durable=False,
                 envoy_flags=()):
        """`change` edits the configuration (`config`, else the main suite's). A replica shares its sibling's stores,
        provider and master key. With `log` the provider keeps its own books, with
        `durable` Redis its data."""
        self.folder = LOCAL / "run" / "e2e" / f"{name}-{backend.replace('+', '-')}"
        self.backend, self.keys, self.sibling = backend, [], sibling
        self.redis = self.postgres = None
        config, environment = config or base_config(), {}
        if sibling:
            self.redis, self.postgres = sibling.redis, sibling.postgres
            environment["LITELLM_MASTER_KEY"] = sibling.master_key
        if backend != "embedded":
            if not sibling:
                self.redis, self.postgres = Redis(self.folder, durable).start(), Postgres(self.folder).start()
            config["general_settings"]["database_url"] = "${DATABASE_URL}"
            config["router_settings"].update(
                redis_host="os.environ/REDIS_HOST", redis_port="os.environ/REDIS_PORT",
                redis_password="os.environ/REDIS_PASSWORD")
            environment |= {"DATABASE_URL": self.postgres.url, "REDIS_HOST": self.redis.host,
                            "REDIS_PORT": str(self.redis.port), "REDIS_PASSWORD": self.redis.password}
        if change:
            change(config)
        path = self.folder / "config.yaml"
        stack_folder = self.folder / "stack"
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        self.stack = Stack(path, stack_folder, environment=environment, concurrency=concurrency,
                           provider=sibling and sibling.provider, provider_log=log, envoy_flags=envoy_flags)

    def __enter__(self):
        try:
            self.stack.start()
            self.http = httpx.Client(base_url=self.stack.url, timeout=30, trust_env=False)
            self.default_key = self.key(key_alias=f"default-{uuid.uuid4().hex[:8]}")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.stack.stop(seconds=5)
        finally:
            self.close()

    def close(self):
        self.stack.kill()
        if self.redis and not self.sibling:
            self.redis.stop()
            self.postgres.remove()

    # -- clients ---------------------------------------------------------------------------------------------------
    @property
    def url(self):
        return self.stack.url

    @property
    def provider(self):
        return self.stack.provider

    @property
    def master_key(self):
        return self.stack.master_key

    def key(self, **options):
        made = self.stack.new_key(**options)
        self.keys.append(made)
        return made

    def client(self, key=None, kind=openai.OpenAI, **options):
        options = {"max_retries": 0, "timeout": 30, **options}
        return kind(base_url=f"{self.url}/v1", api_key=key or self.default_key, **options)

    def post(self, body=None, path="/v1/chat/completions", key=None, headers=None, client=None):
        """A request without an SDK: what goes over the wire is exactly what the test says."""
        sent = {"authorization": f"Bearer {key or self.default_key}"} if key is not False else {}
        return (client or self.http).post(path, json=chat() if body is None else body, headers={**sent, **(headers or {})})

    # -- what happened ---------------------------------------------------------------------------------------------
    def arrived(self, test_id):
        """Requests at the provider that carry a test's header."""
        return self.provider.requests(test=test_id)

    def spend(self, call_id, seconds=15):
        """The one spend row of a call, once it is there."""
        rows = wait_for(f"spend row of {call_id}", lambda: self.rows(call_id), seconds, 0.1)
        assert len(rows) == 1, f"{len(rows)} rows for {call_id}"
        return rows[0]

    def rows(self, call_id=None):
        query = f"?request_id={call_id}" if call_id else "?limit=10000"
        rows = self.stack.call("GET", f"/spend/logs{query}")
        return [row for row in rows if row["request_id"] == call_id] if call_id else rows

    def stat(self, *parts):
        """Sum of Envoy's statistics of the filter whose names have all these parts."""
        return sum(value for name, value in self.stack.stats("attache").items()
                   if name.startswith("wasmcustom.attache.") and all(part in name for part in parts))

    def metrics(self, name):
        """Values of a metric of the sidecar by their labels (the text between the braces)."""
        text = httpx.get(f"{self.stack.health_url}/metrics", trust_env=False).text
        values = re.findall(rf"^{re.escape(name)}(?:\{{([^}}]*)\}})? ([0-9.e+-]+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in values}

    def metric(self, name):
        """Sum of a metric of the sidecar over its labels; a failure of the test if it does not exist."""
        values = self.metrics(name)
        assert values, f"no metric {name}"
        return sum(values.values())


def chat(model="gpt-4o", **more):
    return {"model": model, "messages": QUESTION, **more}


def marked(script=None, **more):
    """Headers that script the fake provider and mark the request, and the mark."""
    mark = uuid.uuid4().hex
    headers = {"x-test-id": mark, **more}
    if script:
        headers["x-fake-script"] = script
    return headers, mark


def content(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def events(text):
    """The `data:` payloads of an event stream."""
    return [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]


def assert_envelope(answer, status, kind=None, code=None, param=None):
    """An error in OpenAI's shape, with the type, code and parameter that are given."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text[:500]}"
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    body = answer.json()
    assert list(body) == ["error"], body
    error = body["error"]
    assert {"message", "type", "param", "code"} <= set(error), error
    assert isinstance(error["message"], str) and error["message"], error
    for name, wanted in (("type", kind), ("code", code), ("param", param)):
        if wanted is not None:
            assert error[name] == wanted, error
    return error


def in_threads(count, function):
    """Calls the function in so many threads at once; results in order, the first exception is raised."""
    results, failures, start = [None] * count, [], threading.Barrier(count)

    def body(index):
        try:
            start.wait(30)
            results[index] = function(index)
        except BaseException as failure:  # noqa: BLE001 - raised below, in the test's thread
            failures.append(failure)

    threads = [threading.Thread(target=body, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if failures:
        raise failures[0]
    return results


def body_of_size(size, model="gpt-4o"):
    """A JSON request body of exactly so many bytes."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "@"}]}).encode()
    assert size >= len(body)
    return body.replace(b"@", b"x" * (size - len(body) + 1))


def content_of(text):
    """Content of an event stream of chat chunks; an error event has none."""
    chunks = (json.loads(event) for event in events(text) if event != "[DONE]")
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))
