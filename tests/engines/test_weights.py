"""Goal: weights are found by what the settings say of them, and come whole and right from a hub that fails midway."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st

from ownstudio.engines.weights import (
    HubSpec,
    WeightsError,
    parse_spec,
    pulled_models,
    resolve_weights,
)
from ownstudio.engines.weights.pull import pull
from ownstudio.engines.weights.spec import choose_file, is_safe_file, parts_of
from ownstudio.settings.load import is_path
from support.hub import FakeHub, fake_hub

CONTENT = b"GGUF" + bytes(range(256)) * 12_000
NAME = "tiny-q8_0.gguf"


class Bars:
    """Adds up what a pull says of its progress."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.done: list[int] = []

    def begin(self, name: str, total_bytes: int) -> None:
        self.totals.append(total_bytes)
        self.done.append(0)

    def advance(self, count: int) -> None:
        self.done[-1] += count
        assert 0 <= self.done[-1] <= self.totals[-1]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN", "MODELSCOPE_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
    with fake_hub(FakeHub(files={NAME: CONTENT})) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.url)
        yield running


@pytest.fixture(params=["hf", "ms"])
def spec(request: pytest.FixtureRequest, hub: FakeHub) -> HubSpec:
    return HubSpec(request.param, hub.repo)


def fetch(spec: HubSpec, data: Path, waits: list[float] | None = None) -> tuple[Path, Bars]:
    bars = Bars()
    return pull(spec, data, bars, (waits if waits is not None else []).append), bars


def left_over(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "models").rglob("*") if path.is_file())


def test_a_pulled_model_is_here_whole_listed_and_found(spec: HubSpec, tmp_path: Path):
    with pytest.raises(WeightsError, match=f"ownstudio model pull {spec}"):
        resolve_weights(str(spec), tmp_path)
    path, bars = fetch(spec, tmp_path)
    assert path.read_bytes() == CONTENT
    assert bars.done == bars.totals == [len(CONTENT)]
    for text in (str(spec), f"{spec}:{NAME}", f"{spec}:Q8_0"):
        assert resolve_weights(text, tmp_path) == path
    (pulled,) = pulled_models(tmp_path)
    assert (pulled.spec, pulled.path, pulled.size_bytes) == (f"{spec}:{NAME}", path, len(CONTENT))
    assert pulled.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert left_over(tmp_path) == [NAME, f"{NAME}.sha256"]


def test_what_is_here_is_not_fetched_again(spec: HubSpec, hub: FakeHub, tmp_path: Path):
    fetch(spec, tmp_path)
    _, bars = fetch(spec, tmp_path)
    assert hub.offsets == [0]
    assert bars.done == [len(CONTENT)]


def test_a_transfer_that_breaks_goes_on_where_it_was(spec: HubSpec, hub: FakeHub, tmp_path: Path):
    half = len(CONTENT) // 2
    hub.cuts = [half, 1000]
    waits: list[float] = []
    path, bars = fetch(spec, tmp_path, waits)
    assert hub.offsets == [0, half, half + 1000]
    assert path.read_bytes() == CONTENT
    assert bars.done == [len(CONTENT)]
    assert len(waits) == 2


def test_a_pull_that_gave_up_is_continued_by_the_next(spec: HubSpec, hub: FakeHub, tmp_path: Path):
    half = len(CONTENT) // 2
    hub.cuts = [half, *([0] * 5)]
    waits: list[float] = []
    with pytest.raises(
        WeightsError, match=rf"stopped at {half} of {len(CONTENT)} bytes: .*goes on from there"
    ):
        fetch(spec, tmp_path, waits)
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0]
    with pytest.raises(WeightsError, match="ownstudio model pull"):
        resolve_weights(str(spec), tmp_path)
    assert list(pulled_models(tmp_path)) == []
    hub.offsets.clear()
    path, bars = fetch(spec, tmp_path)
    assert hub.offsets == [half]
    assert path.read_bytes() == CONTENT
    assert bars.done == [len(CONTENT)]
    assert left_over(tmp_path) == [NAME, f"{NAME}.sha256"]


def test_a_hub_that_sends_no_ranges_is_heard_from_the_start(
    spec: HubSpec, hub: FakeHub, tmp_path: Path
):
    hub.ranges = False
    hub.cuts = [len(CONTENT) // 2]
    path, bars = fetch(spec, tmp_path)
    assert path.read_bytes() == CONTENT
    assert bars.done == [len(CONTENT)]


def test_passing_faults_of_the_hub_are_waited_out(spec: HubSpec, hub: FakeHub, tmp_path: Path):
    hub.statuses = [503, 429, 200]
    path, _ = fetch(spec, tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_refusal_of_the_hub_is_told_at_once(spec: HubSpec, hub: FakeHub, tmp_path: Path):
    hub.statuses = [403]
    with pytest.raises(WeightsError, match=f"{NAME} cannot be had: the hub answered 403"):
        fetch(spec, tmp_path)


def test_wrong_content_is_refused_and_removed(spec: HubSpec, hub: FakeHub, tmp_path: Path):
    hub.checksums[NAME] = hashlib.sha256(b"what was meant").hexdigest()
    with pytest.raises(WeightsError, match="other content than the hub's checksum says"):
        fetch(spec, tmp_path)
    assert left_over(tmp_path) == []
    del hub.checksums[NAME]
    assert fetch(spec, tmp_path)[0].read_bytes() == CONTENT


def test_spoiled_bytes_of_an_earlier_pull_are_found_out(
    spec: HubSpec, hub: FakeHub, tmp_path: Path
):
    hub.cuts = [1000, *([0] * 5)]
    with pytest.raises(WeightsError, match="stopped"):
        fetch(spec, tmp_path)
    (partial,) = (tmp_path / "models").rglob("*.part")
    partial.write_bytes(b"\0" * 1000)
    with pytest.raises(WeightsError, match="other content"):
        fetch(spec, tmp_path)
    assert fetch(spec, tmp_path)[0].read_bytes() == CONTENT


def test_a_new_version_is_not_mixed_with_the_old(spec: HubSpec, hub: FakeHub, tmp_path: Path):
    hub.cuts = [1000, *([0] * 5)]
    with pytest.raises(WeightsError, match="stopped"):
        fetch(spec, tmp_path)
    hub.files[NAME] = CONTENT[::-1]
    hub.offsets.clear()
    with pytest.raises(WeightsError, match="not a GGUF"):
        resolve_weights(str(fetch(spec, tmp_path)[0]), tmp_path)
    assert hub.offsets == [0]


@pytest.mark.parametrize("checksum", ["", "0" * 40, "../" * 21 + "x"])
def test_a_file_without_a_sha256_is_not_fetched(
    spec: HubSpec, hub: FakeHub, tmp_path: Path, checksum: str
):
    hub.checksums[NAME] = checksum
    with pytest.raises(WeightsError, match="gives no SHA-256"):
        fetch(spec, tmp_path)
    assert hub.offsets == []


def test_two_pulls_of_one_file_do_not_meet(spec: HubSpec, hub: FakeHub, tmp_path: Path):
    directory = tmp_path / "models" / spec.hub / spec.repo
    directory.mkdir(parents=True)
    digest = hashlib.sha256(CONTENT).hexdigest()
    with (directory / f"{NAME}.{digest[:16]}.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(WeightsError, match="another pull"):
            fetch(spec, tmp_path)
    fetch(spec, tmp_path)


def test_the_credentials_reach_the_hub_and_not_its_file_store(
    spec: HubSpec, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hub.token = "hunter2"
    with pytest.raises(WeightsError, match=r"does not exist, or is private: .*TOKEN"):
        fetch(spec, tmp_path)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", hub.token)
    fetch(spec, tmp_path)
    assert hub.store_headers
    for headers in hub.store_headers:
        assert "hunter2" not in str(headers)


def test_the_offline_variable_of_hugging_face_is_respected(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        fetch(HubSpec("hf", hub.repo), tmp_path)
    assert hub.asked == []


def test_the_older_variable_of_modelscope_is_respected(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MODELSCOPE_ENDPOINT")
    monkeypatch.setenv("MODELSCOPE_DOMAIN", hub.url)
    fetch(HubSpec("ms", hub.repo), tmp_path)
    assert hub.asked


def test_a_hub_that_cannot_be_reached_is_named(
    spec: HubSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # The library of Hugging Face waits between its tries.
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(WeightsError, match=r"at http://127\.0\.0\.1:1 could not be asked"):
        fetch(spec, tmp_path)


def test_all_parts_of_a_split_model_are_pulled(spec: HubSpec, hub: FakeHub, tmp_path: Path):
    hub.files = {f"q/m-0000{n}-of-00002.gguf": CONTENT + bytes([n]) for n in (1, 2)}
    path, bars = fetch(spec, tmp_path)
    assert path.name == "m-00001-of-00002.gguf"
    assert len(bars.done) == 2
    assert resolve_weights(str(spec), tmp_path) == path
    (pulled,) = pulled_models(tmp_path)
    assert pulled.size_bytes == 2 * (len(CONTENT) + 1)
    path.with_name("m-00002-of-00002.gguf").unlink()
    assert list(pulled_models(tmp_path)) == []
    with pytest.raises(WeightsError, match="not here whole"):
        resolve_weights(str(spec), tmp_path)
    del hub.files["q/m-00002-of-00002.gguf"]
    with pytest.raises(WeightsError, match="lacks q/m-00002"):
        fetch(spec, tmp_path)


def test_names_that_leave_the_directory_are_not_taken_from_a_hub(
    spec: HubSpec, hub: FakeHub, tmp_path: Path
):
    hub.files = {"../../evil.gguf": CONTENT, "/etc/evil.gguf": CONTENT}
    with pytest.raises(WeightsError, match="has no GGUF file"):
        fetch(spec, tmp_path)


@pytest.mark.parametrize(
    ("names", "wanted", "chosen"),
    [
        (["README.md", "m.gguf"], "", "m.gguf"),
        (["m-Q4_K_M.gguf", "m-Q8_0.gguf"], "", "m-Q4_K_M.gguf"),
        (["m-q8_0.gguf", "m-f16.gguf"], "", "m-q8_0.gguf"),
        (["m-f16.gguf", "mmproj-f16.gguf", "m.imatrix.gguf"], "", "m-f16.gguf"),
        (["m-Q8_0.gguf", "m-f16.gguf"], "F16", "m-f16.gguf"),
        (["m.gguf", "m.gguf.gguf"], "m.gguf", "m.gguf"),
        (["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"], "", "m-00001-of-00002.gguf"),
    ],
)
def test_one_file_is_chosen_by_rule(names: list[str], wanted: str, chosen: str):
    assert choose_file(names, wanted, "x") == chosen
    assert choose_file(names[::-1], wanted, "x") == chosen


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (
            ["m-f16.gguf", "m-bf16.gguf"],
            "",
            r"several GGUF files; name one .*\n  m-bf16\.gguf\n  m-f16",
        ),
        (["m-f16.gguf", "m-bf16.gguf"], "f16", r"no single GGUF file named 'f16'"),
        (["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"], "", "several"),
        (["m.safetensors"], "", "has no GGUF file"),
        (["m.gguf"], "Q4", "no single GGUF file named 'Q4'"),
    ],
)
def test_what_no_rule_decides_is_asked_back(names: list[str], wanted: str, message: str):
    with pytest.raises(WeightsError, match=message):
        choose_file(names, wanted, "x")


def test_the_bundled_model_is_found(tmp_path: Path):
    assert resolve_weights("bundled", tmp_path).name == "ownstudio-tiny.gguf"


def test_a_path_that_the_system_refuses_is_refused_in_words(tmp_path: Path):
    with pytest.raises(WeightsError, match="cannot be read: File name too long"):
        resolve_weights(str(tmp_path / ("x" * 300)), tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_path_below_a_closed_directory_is_refused_in_words(tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(0)
    with pytest.raises(WeightsError, match="cannot be read: Permission denied"):
        resolve_weights(str(closed / "model.gguf"), tmp_path)


def test_a_path_is_a_file_or_a_directory_with_one(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"a\.gguf cannot be read: No such file"):
        resolve_weights(str(tmp_path / "a.gguf"), tmp_path)
    with pytest.raises(WeightsError, match="has no GGUF file"):
        resolve_weights(str(tmp_path), tmp_path)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert resolve_weights(str(tmp_path), tmp_path) == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").write_bytes(b"version https://git-lfs")
    with pytest.raises(WeightsError, match="several GGUF files"):
        resolve_weights(str(tmp_path), tmp_path)
    with pytest.raises(WeightsError, match=r"b\.gguf are not a GGUF file"):
        resolve_weights(str(tmp_path / "b.gguf"), tmp_path)


@pytest.mark.parametrize(
    "spec",
    ["hf:", "hf:x", "hf:a/b/c", "hf:../..", "ms:a/..b", "hf:a/b:../c", "hf:a/b:/c", "hf:-a/b"],
)
def test_a_spec_that_names_no_repository_is_refused(spec: str):
    with pytest.raises(WeightsError):
        parse_spec(spec)


@given(st.sampled_from(["", "hf:", "ms:", "bundled", "hf:a/b"]), st.text(max_size=40))
def test_settings_and_engines_agree_what_a_path_is(start: str, rest: str):
    try:
        parsed = parse_spec(start + rest)
    except WeightsError:
        assert not is_path(start + rest)
    else:
        assert is_path(start + rest) == isinstance(parsed, Path)


@given(st.text(max_size=60))
def test_a_safe_name_stays_inside_its_directory(name: str):
    root = Path("/data/models/hf/a/b")
    if is_safe_file(name):
        joined = root / name
        assert joined != root
        assert ".." not in joined.parts
        assert joined.is_relative_to(root)


@given(st.integers(1, 300))
def test_the_parts_of_a_split_model_are_counted_out(count: int):
    parts = parts_of(f"m-00001-of-{count:05}.gguf")
    assert len(set(parts)) == count
    assert parts[-1] == f"m-{count:05}-of-{count:05}.gguf"
