"""Goal: each source of settings is read and outranks the ones below it, and nothing wrong starts a server."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.settings import SettingsError, load_settings
from ownstudio.settings.fields import Field, fields


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, path: str = "ownstudio.toml") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_nothing_is_needed():
    loaded = load_settings(environ={"XDG_DATA_HOME": "/srv"})
    assert loaded.config is None
    assert loaded.settings.data == Path("/srv/ownstudio")
    assert (loaded.settings.server.host, loaded.settings.server.port) == ("127.0.0.1", 8000)
    assert list(loaded.settings.deployments) == ["ownstudio-tiny"]
    assert loaded.settings.deployments["ownstudio-tiny"].routes == ("*",)
    assert set(loaded.sources.values()) == {"default"}


def test_flags_outrank_environment_outranks_file_outranks_defaults():
    write("[server]\nhost = 'file'\nport = 1\nkeep_alive_s = 5\n")
    environ = {"OWNSTUDIO_SERVER__HOST": "environ", "OWNSTUDIO_SERVER__PORT": "2"}
    loaded = load_settings(environ=environ, overrides={"server.port": 3})
    server = loaded.settings.server
    assert (server.port, server.host, server.keep_alive_s, server.body_max_bytes) == (
        3,
        "environ",
        5.0,
        8 * 1024**2,
    )
    assert [loaded.sources[f"server.{leaf}"] for leaf in ("port", "host", "keep_alive_s")] == [
        "--port",
        "OWNSTUDIO_SERVER__HOST",
        "ownstudio.toml",
    ]


def test_the_file_is_looked_for_in_order(tmp_path: Path):
    write("log.level = 'debug'", "given.toml")
    write("log.level = 'error'", "data/ownstudio.toml")
    environ = {"OWNSTUDIO_DATA": str(tmp_path / "data")}
    assert load_settings(environ=environ).settings.log.level == "error"
    write("log.level = 'warning'")
    assert load_settings(environ=environ).settings.log.level == "warning"
    environ["OWNSTUDIO_CONFIG"] = "given.toml"
    assert load_settings(environ=environ).settings.log.level == "debug"
    assert load_settings(Path("ownstudio.toml"), environ).settings.log.level == "warning"


def test_a_named_file_must_exist():
    with pytest.raises(SettingsError, match=r"nowhere\.toml cannot be read: No such file"):
        load_settings(Path("nowhere.toml"), {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1", r"server\.prot \(in ownstudio\.toml\).*did you mean server\.port\?"),
        (
            "[sever]\nport = 1",
            r"sever.*not a setting.*allowed here: admin, billing, cache, data, database_url",
        ),
        ("port = 1", r"did you mean server\.port\?"),
        ("[server]\nport = 99999", r"server\.port = 99999 .*whole number from 0 to 65535"),
        ("[server]\nport = true", r"server\.port = true .*whole number"),
        ("[server]\nport = '80'", r"server\.port = '80' .*whole number"),
        ("[server]\nkeep_alive_s = nan", r"keep_alive_s = nan .*a number from 1 to 3600"),
        ("[server]\nkeep_alive_s = inf", r"keep_alive_s = inf .*a number from 1 to 3600"),
        ("server = 1", r"server = 1 .*must be a table, written as \[server\]"),
        (
            "log.level = 'loud'",
            r'log\.level = \'loud\' .*"debug" or "info" or "warning" or "error"',
        ),
        ("data = ''", r"data = '' .*must be a path"),
        ("[deployments.a]\nthreads = 1", r"deployments\.a\.weights .*missing"),
        ("[deployments.a]\nweights = ''", r"deployments\.a\.weights = ''"),
        ("[deployments.a]\nweights = 'b'\nengine = 'x'", r'must be "llamacpp"'),
        ("[deployments.a__b]\nweights = 'b'", r"no two underscores in a row"),
        ("[deployments.'a b']\nweights = 'b'", r"a deployment's name is"),
        ("[deployments.a]\nweights = 'b'\nroutes = 'x'", r"routes = 'x' .*a list of texts"),
        ("not toml", r"ownstudio\.toml is not valid TOML: .*line 1"),
        (
            "[deployments.a]\nweights='bundled'\nroutes=['x']\n"
            "[deployments.b]\nweights='bundled'\nroutes=['x']",
            r"deployments\.a and deployments\.b both answer 'x'",
        ),
        (
            "[deployments.a]\nweights='bundled'\nroutes=['b']\n[deployments.b]\nweights='bundled'",
            r"both answer 'b'",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_key_value_and_what_is_allowed(text: str, message: str):
    write(text)
    with pytest.raises(SettingsError, match=message):
        load_settings(environ={})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OWNSTUDIO_SERVER__PROT", "1", r"OWNSTUDIO_SERVER__PROT.*did you mean server\.port\?"),
        ("OWNSTUDIO_PORT", "1", r"did you mean server\.port\?"),
        ("OWNSTUDIO_SERVER", "1", r"server .*not a setting"),
        ("OWNSTUDIO_", "1", r"not a setting"),
        ("OWNSTUDIO_SERVER__PORT", "", r"server\.port = '' \(OWNSTUDIO_SERVER__PORT\)"),
        ("OWNSTUDIO_LOG__ACCESS", "maybe", r"must be true or false"),
        ("OWNSTUDIO_SERVER__KEEP_ALIVE_S", "nan", r"a number from 1 to 3600"),
        ("OWNSTUDIO_SERVER__PORT_FILE", "/x", r"port_file .*not a setting"),
        ("OWNSTUDIO_DATABASE_URL_FILE", "/nowhere", r"the file cannot be read: No such file"),
        ("OWNSTUDIO_DEPLOYMENTS__QWEN__SLOTS", "2", r"deployments\.qwen\.weights .*missing"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(variable: str, value: str, message: str):
    with pytest.raises(SettingsError, match=message):
        load_settings(environ={variable: value})


SERVICE_LINKS = {
    "SERVICE_HOST": "10.0.0.11",
    "SERVICE_PORT": "8000",
    "SERVICE_PORT_HTTP": "8000",
    "PORT": "tcp://10.0.0.11:8000",
    "PORT_8000_TCP": "tcp://10.0.0.11:8000",
    "PORT_8000_TCP_PROTO": "tcp",
    "PORT_8000_TCP_PORT": "8000",
    "PORT_8000_TCP_ADDR": "10.0.0.11",
}


@pytest.mark.parametrize("service", ["OWNSTUDIO", "OWNSTUDIO_REDIS", "OWNSTUDIO_SERVICE"])
def test_what_kubernetes_says_of_a_service_is_no_setting(service: str):
    links = {f"{service}_{name}": value for name, value in SERVICE_LINKS.items()}
    environ = links | {"OWNSTUDIO_SERVER__PORT": "9"}
    assert load_settings(environ=environ).settings.server.port == 9
    for mistake in (f"{service}_PROT", f"{service}_PORT"):
        with pytest.raises(SettingsError, match=mistake):
            load_settings(environ=environ | {mistake: "8000"})


def test_a_home_is_expanded_wherever_the_data_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("log.level = 'error'", "own/ownstudio.toml")
    by_flag = load_settings(environ={}, overrides={"data": "~/own"})
    by_variable = load_settings(environ={"OWNSTUDIO_DATA": "~/own"})
    for settings in (by_flag.settings, by_variable.settings):
        assert (settings.data, settings.log.level) == (tmp_path / "own", "error")


def test_a_home_that_is_not_known_is_named():
    refusal = r"~nobody-here/own \({}\): the home directory is not known"
    with pytest.raises(SettingsError, match=refusal.format("--data")):
        load_settings(environ={}, overrides={"data": "~nobody-here/own"})
    with pytest.raises(SettingsError, match=refusal.format("OWNSTUDIO_DATA")):
        load_settings(environ={"OWNSTUDIO_DATA": "~nobody-here/own"})
    with pytest.raises(SettingsError, match="the home directory is not known"):
        load_settings(environ={"XDG_DATA_HOME": "~nobody-here"})


def test_an_unknown_flag_is_refused():
    with pytest.raises(SettingsError, match=r"server\.prot"):
        load_settings(environ={}, overrides={"server.prot": 1})


def test_variables_reach_deployments_whatever_their_names():
    write("[deployments.'Qwen3-0.6B']\nweights = 'bundled'\n")
    environ = {
        "OWNSTUDIO_DEPLOYMENTS__QWEN3_0_6B__ROUTES": "qwen-plus, qwen-max,",
        "OWNSTUDIO_DEPLOYMENTS__QWEN3_0_6B__SLOTS": "4",
    }
    deployments = load_settings(environ=environ).settings.deployments
    assert list(deployments) == ["Qwen3-0.6B"]
    assert deployments["Qwen3-0.6B"].routes == ("qwen-plus", "qwen-max")
    assert deployments["Qwen3-0.6B"].slots == 4


def test_the_default_deployment_is_tuned_by_variables_and_replaced_by_any_declared_one():
    tuned = {"OWNSTUDIO_DEPLOYMENTS__OWNSTUDIO_TINY__THREADS": "2"}
    deployments = load_settings(environ=tuned).settings.deployments
    assert (deployments["ownstudio-tiny"].threads, deployments["ownstudio-tiny"].routes) == (
        2,
        ("*",),
    )
    declared = {"OWNSTUDIO_DEPLOYMENTS__QWEN__WEIGHTS": "bundled"}
    assert list(load_settings(environ=declared).settings.deployments) == ["qwen"]
    write("[deployments.ownstudio-tiny]\nweights = 'bundled'\n")
    assert load_settings(environ={}).settings.deployments["ownstudio-tiny"].routes == ()


def test_a_secret_may_come_from_a_file_and_never_shows_in_an_error(tmp_path: Path):
    secret = write("sqlite:///x.db\n", "secret")
    environ = {"OWNSTUDIO_DATABASE_URL_FILE": str(secret)}
    loaded = load_settings(environ=environ)
    assert loaded.settings.database_url == "sqlite:///x.db"
    assert loaded.sources["database_url"] == "OWNSTUDIO_DATABASE_URL_FILE"
    with pytest.raises(SettingsError, match="both set database_url"):
        load_settings(environ=environ | {"OWNSTUDIO_DATABASE_URL": "x"})
    with pytest.raises(SettingsError) as refusal:
        load_settings(environ={"OWNSTUDIO_DATABASE_URL": "hunter2" * 1000})
    assert "hunter2" not in str(refusal.value)
    assert "(hidden)" in str(refusal.value)


def test_paths_in_a_file_count_from_its_directory_and_others_from_here(tmp_path: Path):
    file = write("data = 'd'\n[deployments.a]\nweights = 'm/x.gguf'\n", "etc/o.toml")
    settings = load_settings(file, {}).settings
    assert settings.data == tmp_path / "etc/d"
    assert settings.deployments["a"].weights == str(tmp_path / "etc/m/x.gguf")
    assert load_settings(file, {"OWNSTUDIO_DATA": "e"}).settings.data == tmp_path / "e"
    for weights in ("bundled", "hf:Qwen/Q-GGUF:Q8_0", "ms:Qwen/Q-GGUF"):
        write(f"[deployments.a]\nweights = '{weights}'\n", "etc/o.toml")
        assert load_settings(file, {}).settings.deployments["a"].weights == weights


def test_a_file_too_long_to_be_settings_is_refused():
    write("#" * (1024**2 + 1))
    with pytest.raises(SettingsError, match="longer than"):
        load_settings(environ={})


@given(st.text(max_size=40), st.text(st.characters(exclude_characters="\0"), max_size=20))
def test_any_unknown_variable_is_refused_in_words(name: str, value: str):
    # No variable is named after an empty key or one that begins with two underscores.
    with pytest.raises(SettingsError, match=r"not a setting"):
        load_settings(environ={f"OWNSTUDIO___{name}": value})


@given(
    st.sampled_from([field for field in fields() if "number" in field.allowed]),
    st.floats() | st.integers() | st.integers(0, 100),
)
def test_every_number_is_held_to_its_range(field: Field, number: float):
    key = ".".join(field.key).replace("NAME", "ownstudio-tiny")
    low, high = (float(word) for word in field.allowed.split() if word[0].isdigit())
    of_type = isinstance(number, int) or field.allowed.startswith("a number")
    if of_type and low <= number <= high:
        assert load_settings(environ={}, overrides={key: number}).sources[key].startswith("--")
    else:
        with pytest.raises(SettingsError, match=re.escape(key)):
            load_settings(environ={}, overrides={key: number})
