"""Goal: the admin API opens to its own tokens alone, answers at its own pace, and keeps a log of every change."""

import asyncio
import io
import json
import os
import re
from pathlib import Path

import pytest

from ownstudio.accounts.rules import Budget
from ownstudio.core.money import NANOS
from ownstudio.store.database import sqlite_url
from ownstudio.web import admin as module
from ownstudio.web.admin import ServerPages, places
from ownstudio.web.admin_accounts import AccountPages
from ownstudio.web.admin_money import MoneyPages
from support.admin import PREFIX, administered

PAGE = Path(__file__).parents[2] / "docs" / "admin-api.md"

Table = list[tuple[str, str]]


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "o.db")


def table() -> Table:
    """Every method and path of the admin API."""
    nothing: object = None
    rows = places(
        ServerPages(nothing, nothing, nothing),  # type: ignore[arg-type]
        AccountPages(nothing, nothing),  # type: ignore[arg-type]
        MoneyPages(nothing, nothing, nothing, nothing),  # type: ignore[arg-type]
    )
    return [(method, place.path) for place in rows for method in place.methods]


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", "none", path)


def test_every_route_stands_on_its_page_and_no_other_does() -> None:
    written = re.findall(r"^\| `([A-Z]+) (/[^`?]*)`", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(written) == sorted(table())


async def test_the_example_of_the_page_does_what_it_says(url: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    async with administered(url) as admin:
        home = tmp_path / ".local" / "share" / "ownstudio"
        home.mkdir(parents=True)
        (home / "admin-token").write_text(f"{admin.token}\n")
        process = await asyncio.create_subprocess_exec(
            *("sh", "-ec", example.replace("http://127.0.0.1:8000", admin.address)),
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await asyncio.wait_for(process.communicate(), 30)
        secret = json.loads(printed)["secret"]
        holder = await admin.keyring.authenticate(secret)
    assert (holder.name, holder.rules.models) == ("laptop", ("qwen-plus",))
    assert holder.rules.budget == Budget(5 * NANOS, "month")


async def test_without_a_token_every_path_is_401_whether_it_exists_or_not(url: str) -> None:
    async with administered(url, monotonic=Clock()) as admin:
        key = await admin.keyring.create()
        answers = []
        for method, path in [*table(), ("GET", "/no-such-path"), ("PUT", "/accounts")][:24]:
            answers.append(await admin.ask(method, filled(path), token="adm-wrong"))
        assert {(answer.status, answer.code) for answer in answers} == {(401, "invalid_token")}
        # A client's key opens nothing here.
        answer = await admin.ask("GET", "/keys", token=key.secret)
        assert (answer.status, answer.code) == (401, "invalid_token")
        async with admin.client.get(admin.address + PREFIX + "/keys") as bare:
            assert bare.status == 401
            assert (await bare.json())["error"]["code"] == "missing_token"


async def test_a_revoked_token_opens_nothing_a_moment_later(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with administered(url) as admin:
        assert (await admin.ask("GET", "/overview")).status == 200
        (token,) = await admin.tokens.list()
        await admin.tokens.revoke(token.id)
        # What a minute of tests would wait for: the age at which what is known is read anew.
        monkeypatch.setattr("ownstudio.accounts.admin.FRESH_S", 0.0)
        assert (await admin.ask("GET", "/overview")).status == 401


async def test_all_tokens_together_have_one_limit_a_minute(url: str) -> None:
    clock = Clock()
    async with administered(url, requests_per_minute=3, monotonic=clock) as admin:
        other = (await admin.tokens.create()).secret
        statuses = [
            (await admin.ask("GET", "/overview", token=token)).status
            for token in (admin.token, other, other)
        ]
        assert statuses == [200, 200, 200]
        clock.time += 45.5
        answer = await admin.ask("GET", "/overview")
        assert (answer.status, answer.code) == (429, "requests_limited")
        assert answer.headers["retry-after"] == "15"
        clock.time += 14.5
        assert (await admin.ask("GET", "/overview")).status == 200


async def test_wrong_tokens_are_limited_by_address_and_keep_nobody_else_out(url: str) -> None:
    clock = Clock()
    async with administered(url, requests_per_minute=5, monotonic=clock) as admin:
        statuses = [
            (await admin.ask("GET", "/overview", token="adm-wrong")).status for _ in range(32)
        ]
        assert statuses == [401] * 30 + [429] * 2
        # Guesses use up nothing of what the tokens have together, and the right one is still right.
        assert (await admin.ask("GET", "/overview")).status == 200
        clock.time += 60
        assert (await admin.ask("GET", "/overview", token="adm-wrong")).status == 401


def test_a_flood_of_addresses_shares_one_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMES_MAX", 2)
    window = module.FixedWindow(1, Clock())
    window.take("a")
    window.take("b")
    window.take("c")
    for name in ("d", "a"):
        with pytest.raises(module.StudioError):
            window.take(name)


async def test_what_is_not_there_has_the_plain_shape(url: str) -> None:
    async with administered(url) as admin:
        answer = await admin.ask("GET", "/no-such-path")
        assert (answer.status, answer.code) == (404, "not_found")
        answer = await admin.ask("PUT", "/accounts")
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


async def test_bodies_have_a_bound(url: str) -> None:
    async with administered(url) as admin:
        answer = await admin.ask("POST", "/accounts", data=io.BytesIO(b" " * (1024**2 + 1)))
        assert (answer.status, answer.code) == (413, "body_too_large")
        for data in (b"{", b"\xff", b'{"id":"\\ud800"}', b'{"id":"x"} {}'):
            answer = await admin.ask("POST", "/accounts", data=data)
            assert (answer.status, answer.code) == (400, "invalid_body"), data[:10]
        assert (await admin.get("/accounts"))["data"][1:] == []


async def test_a_database_that_is_gone_is_503_and_tells_nothing(url: str) -> None:
    async with administered(url) as admin:
        await admin.get("/overview")
        async with admin.database.transaction() as connection:
            await connection.exec_driver_sql("DROP TABLE workspaces")
        answer = await admin.ask("GET", "/workspaces")
        assert (answer.status, answer.code) == (503, "store_unavailable")
        assert "workspaces" not in answer.body["error"]["message"]


async def test_the_overview_tells_states_and_counts(url: str) -> None:
    async with administered(url) as admin:
        key = await admin.keyring.create()
        await admin.keyring.create()
        await admin.keyring.revoke(key.id)
        seen = await admin.get("/overview")
    assert seen["deployments"] == {
        "tiny": {"state": "ready", "models": 2, "fault": None},
        "broken": {"state": "failed", "models": 0, "fault": "x.gguf: cut off"},
    }
    assert seen["counts"] == {"accounts": 1, "workspaces": 1, "keys": 1}
    assert (seen["running"], seen["draining"]) == (2, False)


async def test_every_change_has_its_line_and_no_secret_in_it(url: str) -> None:
    async with administered(url) as admin:
        assert (await admin.get("/audit")) == {"data": [], "next": None}
        made = await admin.ask("POST", "/keys", {"name": "ci", "rules": {"models": ["qwen-plus"]}})
        taken = await admin.ask("POST", "/accounts", {"id": "default"})
        rotated = await admin.ask("POST", f"/keys/{made.body['id']}/rotate")
        # What cannot be read is no change.
        await admin.ask("POST", "/accounts", {"id": 5})
        lines = (await admin.get("/audit"))["data"]
        (actor,) = await admin.tokens.list()
        assert {line["actor"] for line in lines} == {actor.id}
        assert [
            (line["seq"], line["action"], line["outcome"], line["target"]) for line in lines
        ] == [
            (3, "key.rotate", "done", made.body["id"]),
            (2, "account.create", "refused", "default"),
            (1, "key.create", "done", made.body["id"]),
        ]
        assert lines[2]["detail"] == {"name": "ci", "rules": {"models": ["qwen-plus"]}}
        assert lines[2]["request_id"] == made.headers["x-request-id"]
        assert "exists already" in lines[1]["detail"]["reason"]
        assert lines[0]["detail"] == {"new_key": rotated.body["id"]}
        for secret in (made.body["secret"], rotated.body["secret"], admin.token):
            assert secret not in str(lines)
        assert taken.status == 409


async def test_the_log_comes_in_pages(url: str) -> None:
    async with administered(url) as admin:
        for number in range(5):
            await admin.ask("POST", "/workspaces", {"id": f"w{number}"})
        first = await admin.get("/audit?limit=3")
        assert [line["target"] for line in first["data"]] == ["w4", "w3", "w2"]
        rest = await admin.get(f"/audit?limit=3&after={first['next']}")
        assert [line["target"] for line in rest["data"]] == ["w1", "w0"]
        assert rest["next"] is None


async def test_answers_are_kept_by_nobody(url: str) -> None:
    async with administered(url) as admin:
        answer = await admin.ask("POST", "/keys", {})
        assert answer.status == 201
        assert answer.headers["cache-control"] == "no-store"
