"""One model per provider dialect, all played by the fake provider: what the dialect bench and the soak run against."""

import json
import subprocess

import yaml

PROVIDERS = {
    "openai": {"model": "openai/gpt-4o", "api_base": "${FAKE_PROVIDER_URL}/openai/v1", "api_key": "sk-fake-openai-0001"},
    "anthropic": {"model": "anthropic/claude-sonnet-4-5", "api_base": "${FAKE_PROVIDER_URL}/anthropic",
                  "api_key": "sk-ant-fake-0002"},
    "bedrock": {"model": "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0", "aws_region_name": "us-east-1",
                "api_base": "${FAKE_PROVIDER_URL}/bedrock", "api_key": "bedrock-fake-0003"},
    "gemini": {"model": "gemini/gemini-2.5-flash", "api_base": "${FAKE_PROVIDER_URL}/gemini/v1beta",
               "api_key": "gemini-fake-0004"},
}


def config_file(folder):
    """A configuration with a model group named after each provider."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dialects.yaml"
    models = [{"model_name": name, "litellm_params": params} for name, params in PROVIDERS.items()]
    path.write_text(yaml.safe_dump({
        "model_list": models, "router_settings": {"num_retries": 0, "allowed_fails": 1_000_000},
        "general_settings": {"master_key": "${LITELLM_MASTER_KEY}", "proxy_batch_write_at": 1, "max_request_size_mb": 20},
    }, sort_keys=False))
    return path


def load(program, listen, key, seconds, concurrency, *options):
    """One run of the load generator: its figures."""
    command = [program, "--target", listen, "--key", key, "--seconds", seconds, "--concurrency", concurrency,
               "--warm-up", "0", *options]
    done = subprocess.run([str(part) for part in command], check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)
