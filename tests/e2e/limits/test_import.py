"""Coming from LiteLLM: its keys and models go on working, out of its database."""

import hashlib
import json
import uuid

import psycopg
import pytest
import yaml
from commands import answered, of_stack, run
from harness import BACKENDS, ROOT, Gateway, assert_envelope, chat, marked
from holders import call, config
from project import LOCAL, wait_for
from servers import Postgres

SCHEMA = ROOT / "ext-proc/src/import/schema.sql"
SALT = "sk-salt-of-the-golden-tests-1"
PROVIDER_KEY = "sk-provider-key-0123456789"
# The provider's key and a model's name, by PyNaCl and Python's `cryptography` in the way LiteLLM calls them.
SEALED = {
    "v2": ("v2:gcm:oLmpalHcbhRN0iWjal8WyFKHrtj4C7v4frzbs5p0EYCTLSCbWLWsfKlT98k4OQsIOWUx25YZ",
           "v2:gcm:7YGPF_OiJgAInDHtnUX06edjYdqPTW56shWZket1TiYaTmiiiWIMDaI="),
    "nacl": ("CxQi6eF7VJw75V3obtp8fTEoUxte-8Ur1cq3YbpumdwBs5tTHYO43ewAVTnbdIF-J4gPHU-a6cO-_2qZSus2gIPK",
             "iL2Ry8tBbtf5p3zpf5-0MFoYEIAxdN8VSsDyAl_KivYxC_ng3EwH-6RmrcRX0a1Zw124tok="),
}


@pytest.fixture(scope="module", params=BACKENDS)
def gateway(request):
    """A gateway that serves the models of its database too."""
    settings = config(store_model_in_db=True, proxy_config_reload_interval_seconds=0.3)
    settings["environment_variables"] = {"LITELLM_SALT_KEY": SALT}
    with Gateway("import", request.param, config=settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def server():
    postgres = Postgres(LOCAL / "run" / "e2e" / "litellm", database="litellm").start()
    yield postgres
    postgres.remove()


@pytest.fixture
def litellm(server):
    """A LiteLLM database without rows."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public;" + SCHEMA.read_text())
        yield LiteLlm(server.url, connection)


class LiteLlm:
    def __init__(self, url, connection):
        self.url, self.connection, self.mark = url, connection, uuid.uuid4().hex[:12]

    def __call__(self, name):
        """A name that no other test has."""
        return f"{name}-{self.mark}"

    def insert(self, table, **columns):
        columns = {name: json.dumps(value) if isinstance(value, dict) or name == "members_with_roles" else value
                   for name, value in columns.items()}
        names, places = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
        self.connection.execute(f'INSERT INTO "LiteLLM_{table}" ({names}) VALUES ({places})', columns)

    def key(self, name, **columns):
        plain = f"sk-{self(name)}"
        hashed = hashlib.sha256(plain.encode()).hexdigest()
        self.insert("VerificationToken", token=hashed, key_name=f"sk-...{plain[-4:]}", **columns)
        return plain


def imported(gateway, litellm, *more, **options):
    return run(gateway, "import", "litellm", "--database-url", litellm.url, *of_stack(gateway), *more, **options)


def tables(report):
    return {table["table"].removeprefix("LiteLLM_"): table for table in json.loads(report)["tables"]}


def everybody(litellm):
    """One row of everything; keys by what is special about them."""
    litellm.insert("BudgetTable", budget_id=litellm("gold"), max_budget=100.5, rpm_limit=60, budget_duration="30d")
    litellm.insert("OrganizationTable", organization_id=litellm("org"), organization_alias=litellm("acme"),
                   budget_id=litellm("gold"), spend=12.5)
    litellm.insert("TeamTable", team_id=litellm("team"), team_alias=litellm("search"), organization_id=litellm("org"),
                   max_budget=500, spend=5.5, members_with_roles=[{"user_id": litellm("ann"), "role": "admin"}])
    litellm.insert("UserTable", user_id=litellm("ann"), user_email="ann@example.com", user_role="internal_user",
                   max_budget=50, spend=0.75)
    litellm.insert("TeamMembership", user_id=litellm("ann"), team_id=litellm("team"), spend=1.5)
    litellm.insert("EndUserTable", user_id=litellm("customer"), spend=2, budget_id=litellm("gold"))
    litellm.insert("TagTable", tag_name=litellm("batch"), spend=4)
    keys = {
        "good": litellm.key("good", key_alias=litellm("good"), team_id=litellm("team"), user_id=litellm("ann"), spend=0.25),
        "narrow": litellm.key("narrow", models=["lim-other"]),
        "blocked": litellm.key("blocked", blocked=True),
        "spent": litellm.key("spent", max_budget=1, spend=1.5),
        "expired": litellm.key("expired", expires="2020-01-01"),
    }
    litellm.insert("DeprecatedVerificationToken", token=hashlib.sha256(litellm("sk-old").encode()).hexdigest(),
                   active_token_id=hashlib.sha256(keys["good"].encode()).hexdigest(), revoke_at="2100-01-01")
    return {**keys, "old": litellm("sk-old")}


def test_keys_and_their_owners_come_over(gateway, litellm):
    keys = everybody(litellm)
    assert gateway.post(chat("lim"), key=keys["good"]).status_code == 401
    text = imported(gateway, litellm, "--dry-run")
    assert "dry run: 13 entities would change, nothing was written" in text
    assert gateway.post(chat("lim"), key=keys["good"]).status_code == 401
    first = tables(imported(gateway, litellm, "--json"))
    created = {name: table["created"] for name, table in first.items() if table["created"]}
    assert created == {"BudgetTable": 1, "OrganizationTable": 1, "TeamTable": 1, "UserTable": 1, "TeamMembership": 1,
                       "EndUserTable": 1, "TagTable": 1, "VerificationToken": 5, "DeprecatedVerificationToken": 1}

    # The same plain keys, through Envoy.
    answered(gateway, keys["good"], 200)
    answered(gateway, keys["old"], 200)
    answered(gateway, keys["narrow"], 200, "lim-other")
    assert_envelope(gateway.post(chat("lim"), key=keys["narrow"]), 403, "key_model_access_denied")
    assert gateway.post(chat("lim"), key=keys["blocked"]).status_code == 401
    assert gateway.post(chat("lim"), key=keys["expired"]).status_code == 401
    assert_envelope(gateway.post(chat("lim"), key=keys["spent"]), 429, "budget_exceeded")

    info = call(gateway, f"/key/info?key={keys['good']}", method="GET")["info"]
    assert (info["key_alias"], info["team_id"], info["user_id"]) == (litellm("good"), litellm("team"), litellm("ann"))
    assert 0.25 <= info["spend"] < 0.3
    team = call(gateway, f"/team/info?team_id={litellm('team')}", method="GET")["team_info"]
    assert (team["team_alias"], team["max_budget"], team["organization_id"]) == (litellm("search"), 500, litellm("org"))
    assert 5.5 <= team["spend"] < 5.6 and team["members_with_roles"][0]["user_id"] == litellm("ann")
    user = call(gateway, f"/user/info?user_id={litellm('ann')}", method="GET")["user_info"]
    assert (user["user_email"], user["max_budget"], user["spend"] >= 0.75) == ("ann@example.com", 50, True)
    budget = call(gateway, "/budget/info", {"budgets": [litellm("gold")]})[0]
    assert (budget["max_budget"], budget["rpm_limit"], budget["budget_duration"]) == (100.5, 60, "30d")
    customer = call(gateway, f"/customer/info?end_user_id={litellm('customer')}", method="GET")
    assert customer["spend"] == 2
    organization = call(gateway, f"/organization/info?organization_id={litellm('org')}", method="GET")
    assert organization["spend"] >= 12.5


def test_the_import_may_be_run_again(gateway, litellm):
    keys = everybody(litellm)
    imported(gateway, litellm)
    answered(gateway, keys["good"], 200)
    assert "nothing to change" in imported(gateway, litellm)
    # Changed there: taken over. Changed here: left alone, until that is asked for.
    here = call(gateway, "/key/update", {"key": keys["narrow"], "models": ["lim"]})
    assert here["models"] == ["lim"]
    litellm.connection.execute("""UPDATE "LiteLLM_VerificationToken" SET blocked = true WHERE key_alias = %s""",
                               [litellm("good")])
    again = tables(imported(gateway, litellm, "--json"))["VerificationToken"]
    assert (again["updated"], again["unchanged"]) == (1, 4)
    answered(gateway, keys["good"], 401)
    answered(gateway, keys["narrow"], 200)
    imported(gateway, litellm, "--overwrite")
    answered(gateway, keys["narrow"], 200, "lim-other")


def models(gateway, litellm):
    """Two models of LiteLLM's database: their own key in the newest form, a named credential in the oldest."""
    upstream = f"{gateway.provider.url}/imported/v1"
    sealed, old = SEALED["v2"], SEALED["nacl"]
    litellm.insert("CredentialsTable", credential_name=litellm("ours"), credential_info={},
                   credential_values={"api_key": old[0], "api_base": upstream})
    litellm.insert("ProxyModelTable", model_id=litellm("m1"), model_name=litellm("own"), model_info={"db_model": True},
                   litellm_params={"model": sealed[1], "api_key": sealed[0], "api_base": upstream})
    litellm.insert("ProxyModelTable", model_id=litellm("m2"), model_name=litellm("named"),
                   litellm_params={"model": old[1], "litellm_credential_name": litellm("ours")})
    return litellm("own"), litellm("named")


def serves(gateway, model):
    """A chat on the model arrives at the provider with LiteLLM's key."""
    answered(gateway, gateway.default_key, 200, model, seconds=10)
    headers, mark = marked()
    assert gateway.post(chat(model), headers=headers).status_code == 200
    (arrived,) = gateway.arrived(mark)
    assert (arrived["name"], arrived["headers"]["authorization"]) == ("imported", f"...{PROVIDER_KEY[-4:]}")


def test_models_of_litellm_are_served(gateway, litellm):
    own, named = models(gateway, litellm)
    assert gateway.post(chat(own)).status_code == 404
    report = tables(imported(gateway, litellm, "--json"))
    assert (report["CredentialsTable"]["created"], report["ProxyModelTable"]["created"]) == (1, 2)
    for model in (own, named):
        serves(gateway, model)
    assert {own, named} <= {model["id"] for model in call(gateway, "/v1/models", method="GET")["data"]}
    assert "nothing to change" in imported(gateway, litellm)
    assert "reads every stored credential" in run(gateway, "secrets", "check", *of_stack(gateway))

    gateway.stack.sidecar.stop()
    gateway.stack.start_sidecar()
    gateway.stack.wait_ready()
    for model in (own, named):
        serves(gateway, model)
    # Taken out of service there: gone here, without a restart.
    litellm.connection.execute("""UPDATE "LiteLLM_ProxyModelTable" SET blocked = true WHERE model_name = %s""", [own])
    assert tables(imported(gateway, litellm, "--json"))["ProxyModelTable"]["updated"] == 1
    answered(gateway, gateway.default_key, 404, own, seconds=10)
    serves(gateway, named)


def rewritten(gateway, change):
    """The gateway's configuration, changed."""
    settings = yaml.safe_load(gateway.stack.config.read_text())
    change(settings)
    return yaml.safe_dump(settings, sort_keys=False)


def test_the_salt_key(gateway, litellm, tmp_path):
    _, named = models(gateway, litellm)
    imported(gateway, litellm)
    serves(gateway, named)
    new = "sk-another-salt-key-0123456789"
    text = rewritten(gateway, lambda all: all["environment_variables"].update(LITELLM_SALT_KEY=new))
    other, old = tmp_path / "other.yaml", tmp_path / "old-salt.txt"
    other.write_text(text)
    old.write_text(f"{SALT}\n")
    elsewhere = ("--config", other, "--data-dir", gateway.stack.data)
    for command in (("secrets", "check"), ("serve", "--socket", tmp_path / "s.sock", "--health-listen", "127.0.0.1:0")):
        refused = run(gateway, *command, *elsewhere, status=1)
        assert "the salt key differs" in refused and new not in refused and SALT not in refused
    before, original = gateway.stack.config.read_text(), gateway.stack.config
    try:
        run(gateway, "secrets", "rotate", *elsewhere, "--old-salt-key-file", old)
        assert "the salt key differs" in run(gateway, "secrets", "check", *of_stack(gateway), status=1)
        assert "reads every" in run(gateway, "secrets", "check", *elsewhere)
        # What runs goes on, and takes the new salt key with its configuration.
        serves(gateway, named)
        original.write_text(text)
        # LiteLLM keeps its own: the import is told so.
        again = imported(gateway, litellm, "--litellm-salt-key-file", old)
        assert "nothing to change" in again
        serves(gateway, named)
    finally:
        back = tmp_path / "new-salt.txt"
        back.write_text(new)
        original.write_text(before)
        run(gateway, "secrets", "rotate", *of_stack(gateway), "--old-salt-key-file", back)
    serves(gateway, named)


def test_models_as_a_file(gateway, litellm, tmp_path):
    own, _ = models(gateway, litellm)
    file, folder = tmp_path / "models.yaml", gateway.stack.config.parent
    said = imported(gateway, litellm, "--models-to", file)
    text = file.read_text()
    assert "2 models written" in said and PROVIDER_KEY not in text + said
    variables = [line.split()[-1] for line in said.splitlines() if "set the variable" in line]
    assert len(variables) == 2 and all(f"os.environ/{variable}" in text for variable in variables)
    assert gateway.post(chat(own)).status_code == 404, "nothing else is written"

    def include(settings):
        settings["include"] = [str(file)]
        settings["environment_variables"].update(dict.fromkeys(variables, PROVIDER_KEY))

    before = gateway.stack.config.read_text()
    changed = folder / "with-models.yaml"
    changed.write_text(rewritten(gateway, include))
    assert own in run(gateway, "check", "--config", changed)
    try:
        gateway.stack.config.write_text(changed.read_text())
        serves(gateway, own)
    finally:
        gateway.stack.config.write_text(before)
    whole = tmp_path / "whole.yaml"
    imported(gateway, litellm, "--models-to", whole, "--with-secrets")
    assert whole.read_text().count(PROVIDER_KEY) == 2 and whole.stat().st_mode & 0o777 == 0o600
    assert "exists" in imported(gateway, litellm, "--models-to", whole, status=1)


def test_what_cannot_come_over_is_said(gateway, litellm):
    litellm.insert("VerificationToken", token="sk-plain-and-ancient", key_alias="ancient")
    _, named = models(gateway, litellm)
    litellm.connection.execute("""UPDATE "LiteLLM_CredentialsTable" SET credential_values = '{"api_key": "v2:gcm:AAAA"}'""")
    report = run(gateway, "import", "litellm", "--database-url", litellm.url, *of_stack(gateway), "--dry-run", status=1)
    assert "sk-plain" not in report
    wrong = litellm.url.replace("/litellm", "/nowhere")
    assert "LiteLLM's database" in run(gateway, "import", "litellm", "--database-url", wrong, *of_stack(gateway), status=1)
    litellm.connection.execute('DROP TABLE "LiteLLM_VerificationToken"')
    assert "no LiteLLM database" in imported(gateway, litellm, status=1)
