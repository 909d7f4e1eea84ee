"""What the provider tests share: a group per provider, each with the credential its provider wants, all played by the
fake provider, which checks what it receives; and what a conversation consists of."""

import base64
import contextlib
import json
import subprocess
import time

import yaml
from asking import Facts
from harness import Gateway
from project import Failure
from stack import Provider, http

FACTS = Facts("pairs", "chain", "refused")

QUESTION = "What does an attaché do?"
WEATHER = "How is the weather in Genève?"
TEXT = "Envoys carry letters, attachés know what is in them. \U0001f4ee"
RESULT = "18 degrees and sunny"
ARGUMENTS = {"city": "Genève"}
CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}, "required": ["city"],
        "additionalProperties": False}
# One pixel.
PIXEL = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg==")
ACCOUNT = "attache@p-test.iam.gserviceaccount.com"
ACCESS_KEY = "AKIAFAKE00000001"
# What `usage:1000/200` costs at the prices below, dollars.
PRICE = {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6}
USAGE = (1000, 200)
COST = USAGE[0] * PRICE["input_cost_per_token"] + USAGE[1] * PRICE["output_cost_per_token"]

FAKE = "${FAKE_PROVIDER_URL}"
AWS = {"aws_region_name": "eu-central-1", "aws_access_key_id": ACCESS_KEY,
       "aws_secret_access_key": f"secret-of-{ACCESS_KEY}"}
CLAUDE = "claude-sonnet-4-5"
BEDROCK = "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0"

# Group -> litellm_params. The upstream has the group's name.
CHAT = {
    "openai": {"model": "openai/gpt-4o", "api_base": f"{FAKE}/openai/v1", "api_key": "sk-openai-00001111"},
    "azure": {"model": "azure/gpt-4o", "api_base": f"{FAKE}/azure", "api_key": "azure-00002222",
              "api_version": "2024-10-21"},
    "vllm": {"model": "hosted_vllm/meta-llama/Llama-3.3-70B", "api_base": f"{FAKE}/vllm/v1", "api_key": "vllm-00003333"},
    "anthropic": {"model": f"anthropic/{CLAUDE}", "api_base": f"{FAKE}/anthropic", "api_key": "sk-ant-00004444"},
    "bedrock": {"model": BEDROCK, "aws_bedrock_runtime_endpoint": f"{FAKE}/bedrock", **AWS},
    "bedrock-key": {"model": BEDROCK, "api_base": f"{FAKE}/bedrock-key", "aws_region_name": "us-east-1",
                    "api_key": "bedrock-00005555"},
    "gemini": {"model": "gemini/gemini-2.5-flash", "api_base": f"{FAKE}/gemini/v1beta", "api_key": "gemini-00006666"},
    "vertex": {"model": "vertex_ai/gemini-2.5-pro", "api_base": f"{FAKE}/vertex/v1", "vertex_project": "p-test",
               "vertex_location": "europe-west4"},
    "vertex-claude": {"model": f"vertex_ai/{CLAUDE}@20250929", "api_base": f"{FAKE}/vertex-claude/v1",
                      "vertex_project": "p-test", "vertex_location": "europe-west1"},
}
EMBEDDING = {
    "embed-openai": {"model": "openai/text-embedding-3-small", "api_base": f"{FAKE}/embed-openai/v1", "api_key": "sk-1"},
    "embed-azure": {"model": "azure/text-embedding-3-small", "api_base": f"{FAKE}/embed-azure", "api_key": "azure-1",
                    "api_version": "2024-10-21"},
    "embed-gemini": {"model": "gemini/gemini-embedding-001", "api_base": f"{FAKE}/embed-gemini/v1beta",
                     "api_key": "gemini-1"},
    "embed-vertex": {"model": "vertex_ai/text-embedding-005", "api_base": f"{FAKE}/embed-vertex/v1",
                     "vertex_project": "p-test", "vertex_location": "europe-west4"},
    "embed-titan": {"model": "bedrock/amazon.titan-embed-text-v2:0",
                    "aws_bedrock_runtime_endpoint": f"{FAKE}/embed-titan", **AWS},
    "embed-cohere": {"model": "bedrock/cohere.embed-multilingual-v3",
                     "aws_bedrock_runtime_endpoint": f"{FAKE}/embed-cohere", **AWS},
}
# A chain over four dialects, and groups for what goes wrong.
MORE = {
    "chain-openai": {**CHAT["openai"], "api_base": f"{FAKE}/chain-openai/v1", **PRICE},
    "chain-anthropic": {**CHAT["anthropic"], "api_base": f"{FAKE}/chain-anthropic", **PRICE},
    "chain-bedrock": {**CHAT["bedrock"], "aws_bedrock_runtime_endpoint": f"{FAKE}/chain-bedrock", **PRICE},
    "chain-gemini": {**CHAT["gemini"], "api_base": f"{FAKE}/chain-gemini/v1beta", **PRICE},
    "dropping": {**CHAT["anthropic"], "api_base": f"{FAKE}/dropping", "drop_params": True},
    "down": {**CHAT["anthropic"], "api_base": "http://127.0.0.1:9"},
    "slow": {**CHAT["anthropic"], "api_base": f"{FAKE}/slow", "timeout": 1, "stream_timeout": 1},
    "entra": {"model": "azure/gpt-4o", "api_base": f"{FAKE}/entra", "api_version": "2024-10-21", "tenant_id": "t-test",
              "client_id": "c-test", "client_secret": "azure-secret-7777",
              "azure_scope": "https://cognitiveservices.azure.com/.default"},
    "role": {"model": BEDROCK, "aws_bedrock_runtime_endpoint": f"{FAKE}/role", **AWS,
             "aws_role_name": "arn:aws:iam::123456789012:role/attache", "aws_session_name": "attache-test",
             "aws_sts_endpoint": f"{FAKE}/sts/"},
}
PROVIDERS = list(CHAT)


def config(folder):
    groups = {**CHAT, **EMBEDDING, **MORE}
    model_list = []
    for name, params in groups.items():
        if params["model"].startswith("vertex_ai/"):
            params = {**params, "vertex_credentials": str(folder / "account.json")}
        model_list.append({"model_name": name, "litellm_params": params, "model_info": {"id": name}})
    return {
        "model_list": model_list,
        "router_settings": {
            "num_retries": 0, "allowed_fails": 100_000, "timeout": 20,
            "fallbacks": [{"chain-openai": ["chain-anthropic", "chain-bedrock", "chain-gemini"]}],
        },
        "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "proxy_batch_write_at": 1, "max_request_size_mb": 20},
    }


def _openssl(*command, data=None):
    done = subprocess.run(["openssl", *command], input=data, capture_output=True, check=False)
    if done.returncode:
        raise Failure(f"openssl {' '.join(command)}: {done.stderr.decode()}")
    return done.stdout


def service_account(provider, folder):
    """A service account with a key of its own, in a file; the fake provider's token endpoint knows its public key."""
    private = _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    public = _openssl("rsa", "-RSAPublicKey_out", "-outform", "DER", data=private)
    status, text = http("POST", f"{provider.url}/_fake/account",
                        {"issuer": ACCOUNT, "key": base64.b64encode(public).decode()})
    assert status == 200, text
    (folder / "account.json").write_text(json.dumps({
        "type": "service_account", "project_id": "p-test", "private_key_id": "k1", "private_key": private.decode(),
        "client_email": ACCOUNT, "client_id": "1", "token_uri": f"{provider.url}/google/token",
    }))


@contextlib.contextmanager
def start(backend, name="providers", **scripts):
    """A gateway and its provider; `scripts` are standing ones of token endpoints, given before anybody asks there."""
    gateway = Gateway(name, backend, config={"general_settings": {}, "router_settings": {}})
    provider = Provider(gateway.folder / "provider").start()
    try:
        for upstream, script in scripts.items():
            provider.script(upstream, script)
        service_account(provider, gateway.folder)
        _with_stores(gateway, config(gateway.folder))
        gateway.stack.provider, gateway.stack.owns_provider = provider, False
        gateway.stack.environment["AZURE_AUTHORITY_HOST"] = f"{provider.url}/login"
        with gateway:
            yield gateway
    finally:
        provider.stop()


def _with_stores(gateway, made):
    """Writes the configuration with the stores that the gateway's own one names."""
    path = gateway.stack.config
    own = yaml.safe_load(path.read_text())
    for section in ("general_settings", "router_settings"):
        made[section] = {**own[section], **made[section]}
    path.write_text(yaml.safe_dump(made, sort_keys=False))


def arrived(gateway, mark):
    """The one request that reached the provider; the provider found nothing to refuse."""
    entries = gateway.arrived(mark)
    assert len(entries) == 1, [(entry["path"], entry["refused"]) for entry in entries]
    assert entries[0]["refused"] is None, (entries[0]["refused"], entries[0]["body"])
    return entries[0]


def sentence(text):
    return f"The tool said: {text}"


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.1)
