"""Configuration: what loads, which source wins, and that every mistake is one clear line."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import get_args

import pytest
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import manifest
from models.contract import SCHEDULERS, LoraSpec, ModelSpec, Tuning
from server.settings.config import ConfigError, load, shipped
from server.settings.offers import (
    AliasTable,
    Family,
    LoraTable,
    ModelTable,
    QualityTable,
    StyleTable,
)
from server.settings.stock import checkpoint, missing, model_spec, worker_spec
from server.settings.tables import (
    Config,
    LimitsTable,
    ServerTable,
    WorkerTable,
)
from server.sizes import Size

ROOT = Path(__file__).parents[3]
DOCS = (ROOT / "docs/config.md").read_text(encoding="utf-8")
TOY = '[[model]]\nid = "toy"\nfamily = "toy"\nnative = ["64x64"]\n'
SD = TOY.replace('"toy"', '"sd"')


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("LIMNER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path):
    def write(text, name="my.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def hf_cache(tmp_path, monkeypatch):
    """A cache of the hub's; `hf_cache("ann/tiny")` puts the snapshot of a model into it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def snapshot(name, revision="main"):
        home = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        folder = home / "snapshots" / hashlib.sha1(revision.encode()).hexdigest()
        folder.mkdir(parents=True)
        (home / "refs").mkdir()
        (home / "refs" / revision).write_text(folder.name)
        (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
        (folder / "unet").mkdir()
        (folder / "unet" / "model.safetensors").touch()
        return folder

    return snapshot


def complaint(path, overrides=None):
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return str(caught.value)


# -- What loads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["demo", "toy", "workstation"])
def test_shipped_config_loads(name):
    config = load(ROOT / f"configs/{name}.toml")
    assert len(config.style) >= 20
    assert not config.server.insecure_open  # so it is only reached from this machine


def test_every_shipped_config_is_tested():
    shipped = {path.stem for path in (ROOT / "configs").glob("*.toml")}
    assert shipped == {"bare", "demo", "slugs", "styles", "toy", "workstation"}


def test_default_are_the_shipped_models_of_which_the_first_is_loaded_at_once():
    assert shipped("demo.toml").exists()
    config = load()
    assert [model.id for model in config.model] == ["sketch", "sketch-flux"]
    assert [model.preload for model in worker_spec(config).models] == [True, False]
    assert config.worker.threads == 1


def test_derived_defaults(write):
    model = load(write(TOY + "steps = 15\nsteps_range = [10, 25]\n")).model[0]
    assert model.steps_by_quality == QualityTable(low=10, medium=15, high=25)
    assert model.sizing.max_pixels == 64 * 64 * 3 // 2
    assert model.sizing.default == Size(64, 64)
    assert model.able == ("generate", "edit", "inpaint")


def test_a_generic_model_only_generates_unless_told():
    table = {"id": "g", "family": "generic", "path": "/m", "native": ["512x512"]}
    assert ModelTable.model_validate(table).able == ("generate",)
    assert ModelTable.model_validate(table | {"tasks": ["edit"]}).able == ("edit",)


def test_paths_are_relative_to_their_file(write, tmp_path):
    path = write('[server]\ndata_dir = "data"\n' + SD + 'path = "weights"\n')
    config = load(path)
    assert config.server.data_dir == tmp_path / "data"
    assert Path(config.model[0].path) == tmp_path / "weights"


def test_a_repository_of_the_hub_is_a_path_wherever_it_is_written(write, hf_cache):
    table = SD + 'path = "hf:ann/tiny@v1"\n'
    assert load(write(table)).model[0].path == "hf:ann/tiny@v1"
    snapshot = hf_cache("ann/tiny")
    model = load(models=[("tiny", "hf:ann/tiny")]).model[0]
    assert (model.id, model.path, model.family) == ("tiny", "hf:ann/tiny", "sdxl")
    assert checkpoint(model) == snapshot
    assert worker_spec(load(models=[("tiny", "hf:ann/tiny")])).models[0].path == str(snapshot)


def test_a_repository_without_its_weights_is_left_out_as_well(write, hf_cache):
    (hf_cache("ann/tiny") / "unet" / "model.safetensors").unlink()
    config = load(write(SD + 'path = "hf:ann/tiny"\n'))
    assert "without its weights: `limner pull ann/tiny`" in missing(config)["sd"]


def test_the_table_of_a_repository_that_is_not_here_is_looked_at(write, hf_cache):
    hf_cache("ann/tiny")
    told = complaint(write('[[model]]\nid = "x"\npath = "hf:ann/absent"\nstepz = 4\n'))
    assert "stepz" in told


def test_a_repository_that_is_not_here_is_left_out_with_the_remedy(write, hf_cache):
    hf_cache("ann/tiny")
    absent = SD + 'path = "hf:ann/absent@v2"\n'
    bare = '[[model]]\nid = "bare"\npath = "hf:ann/absent"\nmax_pixels = 4096\n'
    config = load(write(absent + bare + '[[model]]\nid = "tiny"\npath = "hf:ann/tiny"\n'))
    assert [model.id for model in worker_spec(config).models] == ["tiny"]
    assert missing(config) == {
        "sd": '[[model]] sd: path "hf:ann/absent@v2" is not on this machine: '
        "`limner pull ann/absent@v2` fetches it",
        "bare": '[[model]] bare: path "hf:ann/absent" is not on this machine: '
        "`limner pull ann/absent` fetches it",
    }
    with pytest.raises(ConfigError, match="`limner pull ann/absent` fetches it"):
        worker_spec(load(models=[("absent", "hf:ann/absent")]))


@pytest.mark.parametrize(
    "path", ["hf:", "hf:tiny", "hf:ann/../tiny", "hf:ann/tiny@../x", "hf:/a/b"]
)
def test_what_names_no_repository_is_refused(write, path):
    assert "ORG/NAME" in complaint(write(SD + f'path = "{path}"\n'))


def test_a_worker_is_told_of_the_manifest_that_is_there(write, tmp_path):
    (tmp_path / "weights").mkdir()
    config = load(write('[server]\ndata_dir = "data"\n' + SD + 'path = "weights"\n'))
    assert worker_spec(config).models[0].manifests == ()
    place = manifest.place(tmp_path / "data", tmp_path / "weights")
    manifest.save({}, place, tmp_path / "weights")
    assert worker_spec(config).models[0].manifests == ((str(tmp_path / "weights"), str(place)),)


def test_home_is_expanded(write):
    config = load(write('[server]\ndata_dir = "~/x"\n' + TOY))
    assert config.server.data_dir == Path.home() / "x"


def test_a_machine_without_a_home_needs_a_data_dir(write, monkeypatch):
    def no_home(_):
        raise RuntimeError

    monkeypatch.setattr(Path, "expanduser", no_home)
    assert "[server] data_dir: ~/.local/share/limner" in complaint(write(TOY))
    assert load(write(TOY), {"server": {"data_dir": "/data"}})


def test_included_tables_are_added(write):
    write('[[style]]\nname = "B"\nprompt = "{prompt} b"\n', "more.toml")
    own = '[[style]]\nname = "A"\nprompt = "{prompt} a"\n'
    config = load(write('include = ["more.toml"]\n' + TOY + own))
    assert [style.name for style in config.style] == ["A", "B"]


# -- What wins -------------------------------------------------------------------------------------


def test_flag_beats_variable_beats_file_beats_default(write, monkeypatch):
    path = write("[server]\nport = 1\n" + TOY)
    assert load(write(TOY, "bare.toml")).server.port == 8484
    assert load(path).server.port == 1
    monkeypatch.setenv("LIMNER_SERVER__PORT", "2")
    assert load(path).server.port == 2
    assert load(path, {"server": {"port": 3}}).server.port == 3
    assert load(path, {"server": {"port": None}}).server.port == 2


def test_variables_reach_every_table_and_lists(write, monkeypatch):
    monkeypatch.setenv("LIMNER_SERVER__ALLOWED_HOSTS", '["a.lan", "b.lan"]')
    monkeypatch.setenv("LIMNER_WORKER__DEVICE", "cuda:1")
    monkeypatch.setenv("LIMNER_LIMITS__DECODE_SECONDS", "0.5")
    config = load(write(TOY))
    assert config.server.allowed_hosts == ("a.lan", "b.lan")
    assert config.worker.device == "cuda:1"
    assert config.limits.decode_seconds == 0.5


def test_only_lists_are_written_as_json(write, monkeypatch):
    monkeypatch.setenv("LIMNER_SERVER__HOST", "[::1]")
    assert load(write(TOY)).server.host == "::1"


def test_hosts_and_origins_as_browsers_send_them(write):
    hosts = ["*", "paint.lan", "10.0.0.7", "[fd00::7]", "fd00::7"]
    origins = [
        "HTTP://Localhost:3000",
        "https://app.example:443",
        "http://[::1]:80",
        "http://b:443",
    ]
    table = (
        f"[server]\nallowed_hosts = {json.dumps(hosts)}\nallowed_origins = {json.dumps(origins)}\n"
    )
    server = load(write(table + TOY)).server
    assert server.allowed_hosts == tuple(hosts)
    assert server.allowed_origins == (
        "http://localhost:3000",
        "https://app.example",
        "http://[::1]",
        "http://b:443",
    )


def test_the_page_names_the_schedulers():
    row = next(line for line in DOCS.splitlines() if line.startswith("| `scheduler`"))
    assert {*re.findall(r"`(\w+)`", row)} == {"scheduler", "sd", "sdxl", *SCHEDULERS}


def test_variables_of_container_platforms_are_left_alone(write, monkeypatch):
    monkeypatch.setenv("LIMNER_PORT", "tcp://10.0.0.1:8484")
    monkeypatch.setenv("LIMNER_SERVICE_HOST", "10.0.0.1")
    assert load(write(TOY)).server.port == 8484


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("LIMNER_SERVER__PROT", "1", ["environment: [server] prot: unknown key", "port"]),
        ("LIMNER_SRVER__PORT", "1", ["LIMNER_SRVER__PORT", "LIMNER_SERVER__"]),
        ("LIMNER_SERVER__PORT", "x", ["environment: [server] port: must be a whole number"]),
        ("LIMNER_SERVER__ALLOWED_HOSTS", "[x", ["[server] allowed_hosts", "JSON"]),
        ("LIMNER_WORKER", "[1", ["LIMNER_SERVER", "JSON"]),
        ("LIMNER_WORKER", "[1]", ["LIMNER_SERVER", "JSON"]),
    ],
)
def test_a_wrong_variable_is_named(write, monkeypatch, name, value, parts):
    monkeypatch.setenv(name, value)
    text = complaint(write(TOY))
    assert all(part in text for part in parts), text


def test_a_wrong_flag_is_named(write):
    text = complaint(write(TOY), {"worker": {"device": "tpu"}})
    assert text.startswith("command line: [worker] device: must match")
    assert "cuda" in text


def test_a_server_is_open_only_if_that_is_meant(write):
    host = {"host": "0.0.0.0"}
    assert "insecure_open: must be true" in complaint(write(TOY), {"server": host})
    config = load(write(TOY), {"server": {**host, "insecure_open": True}})
    assert config.server.host == "0.0.0.0"
    for name in ("localhost", "127.0.0.9", "::1"):
        assert not load(write(TOY), {"server": {"host": name}}).server.insecure_open


# -- What is refused -------------------------------------------------------------------------------

FLUX = SD.replace('"sd"', '"flux"') + 'path = "x"\n'
ALIAS = '[[alias]]\nmodel = "{}"\nnames = {}\n'
STYLE = '[[style]]\nname = "{}"\nprompt = "{}"\n'

MISTAKES = {
    "unknown table": ("x = 1\n" + TOY, ["x: unknown key", "server", "model"]),
    "unknown key": ("[server]\nprot = 1\n" + TOY, ["[server] prot: unknown key", "port"]),
    "unknown model key": (TOY + "stesp = 1\n", ["[[model]] toy: stesp: unknown key", "steps"]),
    "unknown quality": (
        TOY + "quality = {low=1, medium=1, high=1, hi=1}\n",
        ["quality.hi", "low, medium"],
    ),
    "not TOML": ("[server\n", ["is not TOML", "line 1"]),
    "no table": ("server = 1\n" + TOY, ["[server] must be a table"]),
    "no model": ("", ["[[model]]: is required"]),
    "empty list of models": ("model = []\n", ["[[model]]: must have at least one entry"]),
    "one bracket": ('[model]\nid = "x"\n', ["model: must be written [[model]]"]),
    "model that is no table": ("model = [1]\n", ["[[model]] no. 1: must be a table"]),
    "port": ("[server]\nport = 70000\n" + TOY, ["[server] port", "65535", "70000"]),
    "port in words": ('[server]\nport = "x"\n' + TOY, ["[server] port: must be a whole number"]),
    "open host": ('[server]\nhost = "0.0.0.0"\n' + TOY, ["[server] insecure_open", "0.0.0.0"]),
    "public_url": ('[server]\npublic_url = "x"\n' + TOY, ["public_url", "https://"]),
    "home": ('[server]\ndata_dir = "~nobody-here/x"\n' + TOY, ["data_dir", "no known home"]),
    "shipped path": (SD + 'path = "demo:../x"\n', ["[[model]] sd: path", '"demo:sketch"']),
    "home of a model": (SD + 'path = "~nobody-here/x"\n', ["[[model]] sd: path", "no known home"]),
    "device": ('[worker]\ndevice = "gpu"\n' + TOY, ["[worker] device", "cuda", "'gpu'"]),
    "seconds": ("[worker]\nstart_seconds = 0\n" + TOY, ["start_seconds", "greater than 0"]),
    "not finite": ("[worker]\nstart_seconds = inf\n" + TOY, ["start_seconds", "finite"]),
    "output": ("[limits]\noutput_pixels = 1\n" + TOY, ["output_pixels", "524288"]),
    "slug": (TOY.replace('"toy"', '"A b"', 1), ["[[model]] A b: id: must match", "a-z0-9"]),
    "family": (TOY.replace('family = "toy"', 'family = "x"'), ["family", "'sd', 'sdxl'"]),
    "native": (TOY.replace("64x64", "64"), ["native", '"512x512"']),
    "empty native": (TOY.replace('["64x64"]', "[]"), ["native: must have at least one entry"]),
    "compile": (
        SD + 'path = "/m"\noffload = "all"\ncompile = true\n',
        ["compile must be left out"],
    ),
    "native off its grid": (TOY.replace("64x64", "68x64"), ["native", "multiple of 8"]),
    "default_size": (TOY + 'default_size = "a"\n', ["default_size: 'a' is not a size"]),
    "small default_size": (TOY + 'default_size = "8x8"\n', ["default_size", "64 to 8192", "8x8"]),
    "big default_size": (TOY + 'default_size = "8000x8000"\n', ["default_size", "output_pixels"]),
    "max_pixels": (TOY + "max_pixels = 1\n", ["max_pixels must be at least"]),
    "range backwards": (TOY + "steps_range = [9, 1]\n", ["steps_range: must name the lower"]),
    "range of one": (TOY + "steps_range = [9]\n", ["steps_range: needs two values"]),
    "steps": (TOY + "steps = 500\n", ["steps must be inside steps_range [1, 100], not 500"]),
    "quality": (TOY + "quality = {low=1, medium=2, high=300}\n", ["quality.high must be inside"]),
    "guidance": (TOY + "guidance = 40.0\n", ["guidance must be inside guidance_range"]),
    "strength": (TOY + "strength = 1.5\n", ["strength", "less than or equal to 1", "1.5"]),
    "task": (TOY + 'tasks = ["paint"]\n', ["tasks", "'generate', 'edit' or 'inpaint'"]),
    "path of a toy": (TOY + 'path = "x"\n', ["path must be left out"]),
    "enlarger of a toy": (TOY + 'enlarger = "x.safetensors"\n', ["enlarger must be left out"]),
    "compiled toy": (TOY + "compile = true\n", ["compile must be left out: only sd, sdxl"]),
    "recorded travellers": (
        SD + 'path = "x"\ngraphs = true\noffload = "all"\n',
        ["graphs must be left out", "travel"],
    ),
    "pickled enlarger": (SD + 'path = "x"\nenlarger = "x.pth"\n', ["enlarger", ".safetensors"]),
    "no path": (SD, ["[[model]] sd: path is required"]),
    "model twice": (TOY + TOY, ['[[model]] id: two models are called "toy"']),
    "alias twice": (TOY + ALIAS.format("toy", '["a", "A"]'), ['[[alias]] names: "a" is there']),
    "alias of none": (TOY + ALIAS.format("tox", '["a"]'), ['there is no model "tox"', "toy"]),
    "alias is an id": (TOY + ALIAS.format("toy", '["TOY"]'), ['"toy" is the id of a model']),
    "alias with space": (TOY + ALIAS.format("toy", '["a b"]'), ["[[alias]] no. 1: names"]),
    "style twice": (
        TOY + STYLE.format("Pop Art", "{prompt}") + STYLE.format("pop-art", "{prompt}"),
        ['[[style]] name: two styles are called "pop art"'],
    ),
    "scheduler": (SD + 'path = "x"\nscheduler = "eulr"\n', ["sd: scheduler must be", "euler,"]),
    "scheduler of a toy": (TOY + 'scheduler = "euler"\n', ["scheduler must be left out"]),
    "host with a port": (
        '[server]\nallowed_hosts = ["a.lan:80"]\n' + TOY,
        ["allowed_hosts: must be a name", "without scheme or port"],
    ),
    "host with a scheme": (
        '[server]\nallowed_hosts = ["http://a.lan"]\n' + TOY,
        ["[server] allowed_hosts: must be a name"],
    ),
    "origin without a scheme": (
        '[server]\nallowed_origins = ["a.lan"]\n' + TOY,
        ["[server] allowed_origins: must be like", "https://app.example:3000"],
    ),
    "origin with a path": (
        '[server]\nallowed_origins = ["http://a.lan/x"]\n' + TOY,
        ["allowed_origins: must be like", "without a path"],
    ),
    "any origin": ('[server]\nallowed_origins = ["*"]\n' + TOY, ["allowed_origins: must be like"]),
    "artifacts": ('[server]\nartifacts = "/data"\n' + TOY, ["[server] artifacts", "file:///"]),
    "root as artifacts": ('[server]\nartifacts = "file:///"\n' + TOY, ["artifacts: must be like"]),
    "file of a host": ('[server]\nartifacts = "file://x/y"\n' + TOY, ["artifacts: must be like"]),
    "no bucket": ('[server]\nartifacts = "s3:///x"\n' + TOY, ["artifacts: must be like", "s3://"]),
    "url_fetch": ('[server]\nurl_fetch = "yes"\n' + TOY, ["[server] url_fetch", '"public" or']),
    "no host at all": ("[server]\nurl_fetch = []\n" + TOY, ["url_fetch", "list of hosts"]),
    "host that is a URL": (
        '[server]\nurl_fetch = ["http://nas.lan/"]\n' + TOY,
        ["[server] url_fetch: must be a name", "nas.lan:8080", "http://nas.lan/"],
    ),
    "short key": ('[server]\nsigning_keys = ["x"]\n' + TOY, ["signing_keys: each must", "32"]),
    "style with two prompts": (
        TOY + STYLE.format("Pop", "{prompt}, {prompt}"),
        ["[[style]] Pop: prompt: must hold {prompt} exactly once"],
    ),
    "style without prompt": (TOY + STYLE.format("Pop", "pop"), ["[[style]] Pop: prompt", "prompt"]),
    "fp8 of a UNet": (SD + 'path = "x"\nfp8 = true\n', ["sd: fp8 must be left out", "sd3, flux"]),
    "cache of a UNet": (SD + 'path = "x"\nstep_cache = 0.1\n', ["sd: step_cache must be left out"]),
    "forecast of a toy": (TOY + "step_forecast = 3\n", ["step_forecast must be left out: only"]),
    "cache and forecast": (
        FLUX + "step_cache = 0.1\nstep_forecast = 3\n",
        ["flux: step_cache and step_forecast do not go together"],
    ),
    "cache of what travels": (
        FLUX + 'step_cache = 0.1\noffload = "all"\n',
        ['flux: step_cache does not go with offload = "all"'],
    ),
    "negative cache": (FLUX + "step_cache = -0.1\n", ["step_cache", "greater than or equal to 0"]),
    "include": ('include = "x.toml"\n' + TOY, ["include: must be a list"]),
    "missing include": ('include = ["x.toml"]\n' + TOY, ["x.toml: there is no such file"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(write, name):
    text, parts = MISTAKES[name]
    path = write(text)
    found = complaint(path)
    assert str(path.parent) in found
    assert all(part in found for part in parts), found
    assert "Traceback" not in found
    assert "pydantic" not in found
    assert len(found.splitlines()) == 1, found


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("off", "off"),
        ("public", "public"),
        ('["nas.lan:8080", "10.0.0.7"]', ("nas.lan:8080", "10.0.0.7")),
    ],
)
def test_whose_urls_are_fetched(write, monkeypatch, said, meant):
    assert load(write(TOY)).server.url_fetch == "public"
    in_file = said if said.startswith("[") else f'"{said}"'
    assert load(write(f"[server]\nurl_fetch = {in_file}\n" + TOY)).server.url_fetch == meant
    monkeypatch.setenv("LIMNER_SERVER__URL_FETCH", said)
    assert load(write(TOY)).server.url_fetch == meant


def test_keys_are_never_shown(write, monkeypatch):
    secret = "a short secret"
    assert secret not in complaint(write(f'[server]\nsigning_keys = ["{secret}"]\n' + TOY))
    monkeypatch.setenv("LIMNER_SERVER__SIGNING_KEYS", secret)
    assert secret not in complaint(write(TOY))
    monkeypatch.setenv("LIMNER_SERVER__SIGNING_KEYS", json.dumps([secret * 3]))
    config = load(write(TOY))
    assert config.server.signing_keys[0].get_secret_value() == secret * 3
    assert secret not in repr(config)


def test_all_mistakes_are_told_at_once(write):
    found = complaint(write("[server]\nport = -1\nprot = 2\n[worker]\nthreads = -1\n" + TOY))
    assert len(found.splitlines()) == 3


def test_a_mistake_in_an_included_file_names_that_file(write):
    write('[[style]]\nname = "B"\n', "more.toml")
    good = '[[style]]\nname = "A"\nprompt = "{prompt}"\n'
    found = complaint(write('include = ["more.toml"]\n' + TOY + good))
    assert re.search(r"more\.toml: \[\[style]] B: prompt: is required", found)


def test_an_included_file_holds_lists_only(write):
    write("[server]\nport = 1\n", "more.toml")
    assert "more.toml: server" in complaint(write('include = ["more.toml"]\n' + TOY))


def test_no_file_and_a_folder_and_no_text(tmp_path):
    assert "there is no such file" in complaint(tmp_path / "none.toml")
    assert "cannot be read" in complaint(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"x = '\xff'")
    assert "is not TOML" in complaint(tmp_path / "latin.toml")


KEYS = sorted(
    {*Config.model_fields, *ServerTable.model_fields, *ModelTable.model_fields, "names", "x"}
)
SCALARS = st.one_of(
    st.integers(-2, 2**40), st.floats(), st.booleans(), st.sampled_from(["", "toy", "64x64", "~~"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=6,
)


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan")


def loaded_or_error(path):
    try:
        return load(path)
    except ConfigError as error:
        return error


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_the_file_says_it_is_a_config_or_a_config_error(write, tree):
    path = write("".join(f"{key} = {toml(value)}\n" for key, value in tree.items()))
    outcome = loaded_or_error(path)
    assert isinstance(outcome, Config) or str(outcome)


# -- What a worker is told ------------------------------------------------------------------------


def test_model_spec(write, tmp_path):
    (tmp_path / "weights").mkdir()
    config = load(
        write(
            "[worker]\nthreads = 3\ndevice = 'cpu'\n"
            + SD.replace('"64x64"', '"64x64", "64x96"')
            + 'path = "weights"\nscheduler = "ddim"\nmax_batch = 2\ncompile = true\ngraphs = true\n'
            + "step_forecast = 3\n"
        )
    )
    spec = model_spec(config.model[0])
    assert spec == ModelSpec(
        id="sd",
        family="sd",
        path=str(tmp_path / "weights"),
        scheduler="ddim",
        width=64,
        height=64,
        buckets=((64, 96),),
        max_batch=2,
        tuning=Tuning(compile=True, graphs=True, step_forecast=3),
    )
    flux = model_spec(load(write(FLUX + "fp8 = true\nstep_cache = 0.1\n")).model[0])
    assert flux.tuning == Tuning(fp8=True, step_cache=0.1)
    worker = worker_spec(config)
    assert (worker.device, worker.threads, worker.models) == ("cpu", 3, (spec,))


def test_a_toy_has_no_path(write):
    assert model_spec(load(write(TOY)).model[0]).path == ""


def test_an_enlarger_is_a_file_beside_the_configuration(write, tmp_path):
    (tmp_path / "weights").mkdir()
    text = SD + 'path = "weights"\nenlarger = "4x.safetensors"\n'
    with pytest.raises(ConfigError, match=r'enlarger ".*4x.safetensors" leads to .*: no such file'):
        worker_spec(load(write(text)))
    (tmp_path / "4x.safetensors").touch()
    (spec,) = worker_spec(load(write(text))).models
    assert spec.enlarger == str(tmp_path / "4x.safetensors")


def test_models_without_a_folder_are_left_out_and_named(write, tmp_path):
    (tmp_path / "weights").mkdir()
    there = SD + 'path = "weights"\n'
    gone = there.replace('id = "sd"', 'id = "gone"').replace("weights", "nowhere")
    config = load(write(there + gone))
    assert [model.id for model in worker_spec(config).models] == ["sd"]
    assert list(missing(config)) == ["gone"]


def test_the_workstation_offers_every_family(write):
    config = load(ROOT / "configs/workstation.toml")
    families = {model.family for model in config.model}
    assert families == {*get_args(Family)} - {"generic", "toy"}
    assert all(names in config.names for names in ("gpt-image-1", "qwen-edit", "dall-e-3"))
    for model in config.model:
        if model.family not in ("sd", "sdxl"):
            assert model.multiple == 16, model.id


@pytest.mark.parametrize("other", ["keep_seconds = 5", "preload = false"])
def test_pinned_models_are_neither_given_up_nor_late(write, other):
    assert "pinned models are loaded at the start" in complaint(
        write(f"{TOY}pinned = true\n{other}")
    )


LORA = TOY + '[[lora]]\nname = "ink"\npath = "ink.safetensors"\nmodel = "toy"\n'


def test_a_model_is_told_its_loras(write, tmp_path):
    config = load(write(LORA))
    with pytest.raises(ConfigError, match=r"\[\[lora]] ink: there is no file"):
        worker_spec(config)
    (tmp_path / "ink.safetensors").touch()
    (spec,) = worker_spec(config).models
    assert spec.loras == (LoraSpec("ink", str(tmp_path / "ink.safetensors")),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LORA.replace(".safetensors", ".ckpt"), "must lead to a .safetensors file"),
        (LORA.replace('model = "toy"', 'model = "x"'), 'there is no model "x"'),
        (LORA + LORA.removeprefix(TOY), "ink of toy is there twice"),
        (LORA.replace('"ink"', '"In k"'), "[[lora]]"),
        (LORA + "weight = 5\n", "weight"),
        (
            LORA + '[[style]]\nname = "s"\nprompt = "{prompt}"\nlora = "oil"\n',
            '[[style]] s: there is no LoRA "oil"',
        ),
    ],
)
def test_what_is_wrong_with_a_lora(write, text, said):
    assert said in complaint(write(text))


def test_a_missing_folder_is_named(write):
    for path in ("weights", "demo:nothing_of_the_kind"):
        config = load(write(SD + f'path = "{path}"\n'))
        with pytest.raises(ConfigError, match=r"\[\[model]] sd: path .* is not a folder"):
            worker_spec(config)


# -- The page -------------------------------------------------------------------------------------


def documented():
    """Heading → {key: its row's default} of every table of the page."""
    tables, heading = {}, ""
    for line in DOCS.splitlines():
        if line.startswith("#"):
            heading = line.strip("# `[]")
        elif found := re.match(r"\| `(\w+)` \|[^|]*\|([^|]*)\|", line):
            tables.setdefault(heading, {})[found[1]] = found[2].strip(" `")
    return tables


TABLES = {
    "Top level": Config,
    "server": ServerTable,
    "worker": WorkerTable,
    "limits": LimitsTable,
    "model": ModelTable,
    "quality": QualityTable,
    "alias": AliasTable,
    "lora": LoraTable,
    "style": StyleTable,
}


def test_the_page_lists_exactly_the_keys():
    assert {name: list(keys) for name, keys in documented().items()} == {
        name: list(table.model_fields) for name, table in TABLES.items()
    }


@pytest.mark.parametrize("name", ["server", "worker", "limits", "model"])
def test_the_page_says_the_defaults(name):
    for key, text in documented()[name].items():
        field = TABLES[name].model_fields[key]
        if text.startswith("required"):
            assert field.is_required() or key == "path"
        elif not field.is_required() and field.default is not None and key != "data_dir":
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            assert json.loads(text) == default, key


def test_the_page_ends_in_a_whole_file_that_loads(write):
    example = re.search(r"```toml\n(.*?)```", DOCS, re.DOTALL)[1]
    write((ROOT / "configs/styles.toml").read_text(encoding="utf-8"), "styles.toml")
    config = load(write(example))
    assert config.worker.device == "cuda:0"
    assert config.model[0].sizing.native[1] == Size(512, 768)


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("sqlite:///limner.db", True), ("sqlite:////var/lib/limner.db", True), ("", True),
        ("sqlite://", False), ("sqlite:///", False), ("sqlite:///dir/", False), ("x.db", False),
        ("sqlite:///x.db?mode=ro", False), ("postgresql://host/limner", False),
    ],
)  # fmt: skip
def test_a_database_is_a_file_of_sqlite(write, url, fine):
    path = write(TOY + f'[server]\ndatabase = "{url}"\n')
    if fine:
        assert load(path).server.database == url
    else:
        with pytest.raises(ConfigError, match=r"\[server\] database: must be like"):
            load(path)
