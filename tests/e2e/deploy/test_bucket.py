"""The configuration in a bucket: read at the start, followed by its ETag, and what happens when it is bad or away."""

import os
import subprocess

import pytest
import yaml
from buckets import BUCKET, CA, GOOGLE_TOKEN, REGION, WEB_TOKEN, Buckets
from harness import LOCAL, UPSTREAM_KEYS, chat, deployment
from project import ATTACHE, WASM, wait_for
from stack import Stack, http

KEY = "llm/config.yaml"
MASTER = "sk-of-the-bucket-1234567890"
STATIC = {"AWS_ACCESS_KEY_ID": "AKIASTATIC", "AWS_SECRET_ACCESS_KEY": "static-secret"}


def config(*models, **more):
    return yaml.safe_dump({"model_list": [deployment(model, model) for model in models],
                           "general_settings": {"master_key": MASTER, "proxy_config_reload_interval_seconds": 0.2}, **more})


@pytest.fixture
def buckets():
    world = Buckets()
    yield world
    world.close()


def names_bucket(buckets, **more):
    return {"LITELLM_CONFIG_BUCKET_NAME": BUCKET, "LITELLM_CONFIG_BUCKET_OBJECT_KEY": KEY, "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": buckets.url, "LITELLM_MASTER_KEY": MASTER, **STATIC, **more}


def run(environment, *arguments):
    """Status and text of a command of `attache`."""
    left = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LITELLM_", "GOOGLE_"))}
    environment = {**left, "FAKE_PROVIDER_URL": "http://127.0.0.1:9", **environment}
    done = subprocess.run([str(ATTACHE), *map(str, arguments)], env=environment, text=True, capture_output=True, timeout=60,
                          check=False)
    return done.returncode, done.stdout + done.stderr


def last_error(stack):
    return (http("GET", f"{stack.health_url}/health/readiness")[1].split('"last_error":', 1) + [""])[1]


def models(stack):
    return sorted(model["id"] for model in stack.call("GET", "/v1/models")["data"])


def test_it_is_followed_and_a_bad_one_changes_nothing(buckets):
    buckets.objects = {KEY: config("first", include=["more.yaml"]), "llm/more.yaml": yaml.safe_dump({
        "model_list": [deployment("included", "included")]})}
    # There is no such file: the bucket's name is enough, and wins.
    stack = Stack("/nowhere/config.yaml", LOCAL / "run" / "e2e" / "bucket", environment=names_bucket(buckets))
    with stack:
        assert models(stack) == ["first", "included"]
        wait_for("answers without a body", lambda: buckets.unchanged > 6, 10)
        assert buckets.sent == 4, "twice each: for the sidecar, for the bootstrap"
        key = stack.new_key()

        def ask(model):
            return http("POST", f"{stack.url}/v1/chat/completions", chat(model), {"authorization": f"Bearer {key}"})[0]

        buckets.objects[KEY] = config("second", include=["more.yaml"])
        wait_for("the new model", lambda: ask("second") == 200, 10, 0.05)
        assert ask("first") == 404
        buckets.objects["llm/more.yaml"] = yaml.safe_dump({"model_list": [deployment("other", "other")]})
        wait_for("the new included model", lambda: ask("other") == 200, 10, 0.05)

        good = buckets.objects[KEY]
        buckets.objects[KEY] = good.replace("api_base", "api_bas", 1)
        wait_for("the complaint", lambda: "did you mean `api_base`" in last_error(stack), 10)
        assert f"s3://{BUCKET}/{KEY}:" in last_error(stack)
        assert ask("second") == ask("other") == 200
        failures = stack.sidecar.log.read_text().count("configuration not reloaded")
        wait_for("some looks more", lambda: buckets.unchanged > 40, 20)
        assert stack.sidecar.log.read_text().count("configuration not reloaded") == failures, "told once"
        buckets.objects[KEY] = good
        wait_for("no complaint", lambda: last_error(stack).startswith("null"), 10)

        for name, why in (("gone", "no such object, or no such bucket"), ("broken", "SlowDown")):
            setattr(buckets, name, True)
            wait_for(name, lambda: why in last_error(stack), 30)
            assert "LITELLM_CONFIG_BUCKET_NAME" in last_error(stack)
            assert ask("second") == ask("other") == 200
            setattr(buckets, name, False)
            wait_for(f"no longer {name}", lambda: last_error(stack).startswith("null"), 30)
        assert models(stack) == ["other", "second"]
        for text in (stack.sidecar.log.read_text(), last_error(stack)):
            assert "static-secret" not in text and UPSTREAM_KEYS[0] not in text


@pytest.mark.parametrize("kind", ["static", "machine", "web identity", "profile", "gcs"])
def test_the_usual_credentials(buckets, tmp_path, kind):
    buckets.objects[KEY] = config("first")
    environment = names_bucket(buckets)
    if kind != "static":
        for name in STATIC:
            del environment[name]
    if kind == "machine":
        environment["AWS_METADATA_ENDPOINT"] = buckets.url
    elif kind == "web identity":
        (tmp_path / "token").write_text(WEB_TOKEN)
        environment |= {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"), "AWS_ROLE_ARN": "arn:aws:iam::1:role/conf",
                        "AWS_ENDPOINT_URL_STS": buckets.tls_url, "AWS_ENDPOINT_URL": buckets.tls_url, "AWS_CA_BUNDLE": str(CA)}
    elif kind == "profile":
        (tmp_path / "credentials").write_text(
            "[other]\naws_access_key_id = AKIASTATIC\naws_secret_access_key = static-secret\n")
        environment |= {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "AWS_PROFILE": "other"}
    elif kind == "gcs":
        environment |= {"LITELLM_CONFIG_BUCKET_TYPE": "gcs", "GOOGLE_BASE_URL": buckets.url,
                        "GCE_METADATA_HOST": buckets.url.removeprefix("http://")}
    status, text = run(environment, "check", "--data-dir", tmp_path)
    assert status == 0, text
    scheme = "gs" if kind == "gcs" else "s3"
    assert f"read {scheme}://{BUCKET}/{KEY}" in text and "first" in text
    given = buckets.seen[-1]["authorization"]
    if kind == "gcs":
        assert given == f"Bearer {GOOGLE_TOKEN}"
    else:
        used = {"machine": "ASIAMACHINE", "web identity": "ASIAWEB"}.get(kind, "AKIASTATIC")
        assert f"Credential={used}/" in given
    status, text = run(environment, "envoy", "--data-dir", tmp_path, "--wasm", WASM)
    assert status == 0 and "attache_sidecar" in text, text


def test_errors_name_bucket_object_and_variable(buckets, tmp_path):
    environment = names_bucket(buckets)
    where = [f"s3://{BUCKET}/{KEY}", "LITELLM_CONFIG_BUCKET_NAME", "LITELLM_CONFIG_BUCKET_OBJECT_KEY"]

    def refused(*parts, **changes):
        status, text = run({**environment, **changes}, "check", "--data-dir", tmp_path)
        assert status == 1, text
        for part in parts:
            assert part in text, f"{part}: {text}"
        assert "static-secret" not in text

    refused(*where, "no such object")
    refused(*where, "SignatureDoesNotMatch", AWS_SECRET_ACCESS_KEY="another")
    refused(*where, "cannot connect", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    refused(*where, "TLS", AWS_ENDPOINT_URL=buckets.tls_url)
    refused("LITELLM_CONFIG_BUCKET_OBJECT_KEY is not set", BUCKET, LITELLM_CONFIG_BUCKET_OBJECT_KEY="")
    refused("LITELLM_CONFIG_BUCKET_TYPE is azure", "s3 or gcs", LITELLM_CONFIG_BUCKET_TYPE="azure")
    refused("give --config FILE", "LITELLM_CONFIG_BUCKET_NAME", LITELLM_CONFIG_BUCKET_NAME="")
    buckets.objects[KEY] = "model_list: []\nrouter_setings: {}\n"
    refused(f"s3://{BUCKET}/{KEY}:2: router_setings: unknown key")


def test_a_secret_in_a_file_is_rotated(tmp_path):
    """As the kubelet does it, and as Vault's agent does: a link or a file moved to its place."""
    for version, secret in (("v1", "sk-of-the-file-1111"), ("v2", "sk-of-the-file-2222")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(f"{secret}\n")
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "key").symlink_to("..data/key")
    path = tmp_path / "config.yaml"
    entry = deployment("gpt-4o", "one", api_key="${file:%s}" % (tmp_path / "key"))
    path.write_text(yaml.safe_dump({
        "model_list": [entry], "router_settings": {"num_retries": 0},
        "general_settings": {"master_key": MASTER, "proxy_config_reload_interval_seconds": 0.2}}))
    stack = Stack(path, LOCAL / "run" / "e2e" / "secret-file", environment={"LITELLM_MASTER_KEY": MASTER})
    with stack:
        bearer = {"authorization": f"Bearer {stack.new_key()}"}

        def used():
            assert http("POST", f"{stack.url}/v1/chat/completions", chat(), bearer)[0] == 200
            return stack.provider.requests("one")[-1]["headers"]["authorization"]

        assert used() == "...1111"
        (tmp_path / "..new").symlink_to("v2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        wait_for("the second key", lambda: used() == "...2222", 10, 0.05)
        # Half of a rotation: the file is there, and empty.
        (tmp_path / "v2" / "key").write_text("")
        wait_for("the complaint", lambda: "it is empty" in last_error(stack), 10)
        assert used() == "...2222"
        (tmp_path / "partial").write_text("sk-of-the-file-3333")
        (tmp_path / "partial").rename(tmp_path / "v2" / "key")
        wait_for("the third key", lambda: used() == "...3333", 10, 0.05)
        assert "sk-of-the-file" not in stack.sidecar.log.read_text()
