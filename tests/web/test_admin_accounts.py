"""Goal: accounts, workspaces and keys are made, listed and changed over HTTP, on either database, and what cannot be is
refused by name."""

import time
from pathlib import Path
from typing import Any

import pytest

from ownstudio.core.errors import StudioError
from ownstudio.store.database import sqlite_url
from support.admin import administered
from support.servers import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "o.db")
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "o.db")


RULES = {
    "models": ["qwen-plus"],
    "addresses": ["10.0.0.0/8"],
    "limits": {"*": {"requests_per_minute": 60, "tokens_per_minute": 1000}},
    "concurrency": 4,
    "budget": {"amount": "12.5", "period": "day"},
}


async def test_the_life_of_an_account(url: str) -> None:
    before = int(time.time())
    async with administered(url) as admin:
        made = await admin.ask(
            "POST",
            "/accounts",
            {"id": "acme", "name": "Acme", "prepaid": True, "free_only": ["*"], "rules": RULES},
        )
        assert made.status == 201
        account = made.body
        assert before <= account.pop("activated_at") <= time.time()
        assert account == {
            "id": "acme",
            "name": "Acme",
            "prepaid": True,
            "suspended": False,
            "free_only": ["*"],
            "rules": RULES,
        }
        changed = await admin.ask(
            "PATCH", "/accounts/acme", {"suspended": True, "prepaid": False, "free_only": []}
        )
        assert changed.status == 200
        # What a change leaves out stays.
        assert changed.body["name"] == "Acme"
        assert changed.body["rules"] == RULES
        assert (changed.body["suspended"], changed.body["prepaid"]) == (True, False)
        assert await admin.get("/accounts/acme") == changed.body
        # Rules that are given take the place of all rules.
        cleared = await admin.ask("PATCH", "/accounts/acme", {"rules": {"concurrency": 1}})
        assert cleared.body["rules"] == {"concurrency": 1}
        assert {one["id"] for one in (await admin.get("/accounts"))["data"]} == {"default", "acme"}


async def test_the_life_of_a_workspace_and_a_key(url: str) -> None:
    async with administered(url) as admin:
        await admin.ask("POST", "/accounts", {"id": "acme"})
        made = await admin.ask("POST", "/workspaces", {"id": "lab", "account": "acme"})
        assert made.status == 201
        assert made.body == {"id": "lab", "account": "acme", "name": "", "rules": {}}
        changed = await admin.ask("PATCH", "/workspaces/lab", {"name": "Lab", "rules": RULES})
        assert changed.body == {"id": "lab", "account": "acme", "name": "Lab", "rules": RULES}
        assert await admin.get("/workspaces/lab") == changed.body
        listed = await admin.get("/workspaces?account=acme")
        assert [one["id"] for one in listed["data"]] == ["lab"]

        key = await admin.ask("POST", "/keys", {"workspace": "lab", "region": "beijing"})
        assert key.status == 201
        holder = await admin.keyring.authenticate(key.body["secret"])
        assert (holder.account.id, holder.workspace.id, holder.region) == ("acme", "lab", "beijing")
        (shown,) = (await admin.get("/keys?workspace=lab"))["data"]
        assert shown["id"] == key.body["id"]
        assert shown["masked"] == key.body["secret"][:7] + "…"
        assert key.body["secret"] not in str(shown)
        assert "secret" not in shown

        path = f"/keys/{key.body['id']}"
        disabled = await admin.ask("PATCH", path, {"disabled": True, "rules": {"concurrency": 2}})
        assert disabled.body["disabled_at"] is not None
        assert disabled.body["rules"] == {"concurrency": 2}
        enabled = await admin.ask(
            "PATCH", path, {"disabled": False, "expires_at": 2**33, "name": "n"}
        )
        assert (enabled.body["disabled_at"], enabled.body["expires_at"]) == (None, 2**33)
        forever = await admin.ask("PATCH", path, {"expires_at": None})
        assert (forever.body["expires_at"], forever.body["name"]) == (None, "n")

        rotated = await admin.ask("POST", f"{path}/rotate", {"overlap_s": 60})
        assert rotated.status == 201
        assert rotated.body["id"] != key.body["id"]
        assert rotated.body["secret"] != key.body["secret"]
        old = await admin.get(path)
        assert old["revoked_at"] is None
        assert old["expires_at"] <= time.time() + 60

        revoked = await admin.ask("DELETE", f"/keys/{rotated.body['id']}")
        assert revoked.status == 200
        assert revoked.body["revoked_at"] is not None
        again = await admin.ask("DELETE", f"/keys/{rotated.body['id']}")
        assert (again.status, again.code, again.param) == (404, "not_found", "key")
        with pytest.raises(StudioError):
            await admin.keyring.authenticate(rotated.body["secret"])


@pytest.mark.parametrize("path", ["/accounts", "/workspaces"])
async def test_what_cannot_be_an_id_is_refused_on_either_database(url: str, path: str) -> None:
    async with administered(url) as admin:
        # PostgreSQL has no text with this character, not even for the audit log.
        answer = await admin.ask("POST", path, {"id": "a\u0000b"})
        assert (answer.status, answer.code, answer.param) == (400, "invalid_parameter", "id")


async def test_ids_are_taken_once(url: str) -> None:
    async with administered(url) as admin:
        for path in ("/accounts", "/workspaces"):
            assert (await admin.ask("POST", path, {"id": "x"})).status == 201
            again = await admin.ask("POST", path, {"id": "x"})
            assert (again.status, again.code, again.param) == (409, "conflict", "id")


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "/accounts", {}, "id"),
        ("POST", "/accounts", [], None),
        ("POST", "/accounts", {"id": "a", "balance": 5}, "balance"),
        ("POST", "/accounts", {"id": 5}, "id"),
        ("POST", "/accounts", {"id": "a b"}, "id"),
        ("POST", "/accounts", {"id": ""}, "id"),
        ("POST", "/accounts", {"id": "x" * 300}, "id"),
        ("POST", "/accounts", {"id": "a", "name": "\u0000"}, None),
        ("POST", "/accounts", {"id": "a", "prepaid": 1}, "prepaid"),
        ("POST", "/accounts", {"id": "a", "prepaid": None}, "prepaid"),
        ("POST", "/accounts", {"id": "a", "rules": {"speed": 1}}, "rules.speed"),
        ("POST", "/accounts", {"id": "a", "rules": {"concurrency": 0}}, "rules.concurrency"),
        ("POST", "/accounts", {"id": "a", "rules": {"concurrency": 1.5}}, "rules.concurrency"),
        ("POST", "/accounts", {"id": "a", "rules": {"models": ["a", 5]}}, "rules.models[1]"),
        ("POST", "/accounts", {"id": "a", "rules": {"models": ["*"]}}, None),
        ("POST", "/accounts", {"id": "a", "rules": {"addresses": ["10.0.0.1/8"]}}, None),
        (
            "POST",
            "/accounts",
            {"id": "a", "rules": {"limits": {"*": {"requests_per_minute": 0}}}},
            "rules.limits[...].requests_per_minute",
        ),
        (
            "POST",
            "/accounts",
            {"id": "a", "rules": {"budget": {"amount": 12.5}}},
            "rules.budget.amount",
        ),
        (
            "POST",
            "/accounts",
            {"id": "a", "rules": {"budget": {"amount": "1e9"}}},
            "rules.budget.amount",
        ),
        (
            "POST",
            "/accounts",
            {"id": "a", "rules": {"budget": {"amount": "-1"}}},
            "rules.budget.amount",
        ),
        ("PATCH", "/accounts/default", {"id": "b"}, "id"),
        ("PATCH", "/accounts/a%00b", {}, "account"),
        ("PATCH", "/accounts/" + "x" * 65, {}, "account"),
        ("POST", "/workspaces", {"id": "w", "account": "../x"}, "account"),
        ("POST", "/keys", {"region": "moon"}, "region"),
        ("POST", "/keys", {"expires_at": 5}, None),
        ("POST", "/keys", {"expires_at": "soon"}, "expires_at"),
        ("POST", "/keys", {"secret": "sk-mine"}, "secret"),
        ("POST", "/keys/key-1/rotate", {"overlap_s": -1}, "overlap_s"),
        ("GET", "/keys?limit=0", None, "limit"),
        ("GET", "/keys?limit=1001", None, "limit"),
        ("GET", "/keys?limit=x", None, "limit"),
        ("GET", "/keys?limit=1&limit=2", None, "limit"),
        ("GET", "/keys?colour=red", None, "colour"),
        ("GET", "/keys?after=key-none", None, "after"),
        ("GET", "/keys?workspace=%27", None, "workspace"),
        ("GET", "/keys?" + "&".join(f"f{n}=1" for n in range(50)), None, None),
        ("GET", "/audit?after=0", None, "after"),
        ("GET", "/overview?x=1", None, "x"),
    ],
)
async def test_what_cannot_be_is_named_and_changes_nothing(
    file_url: str, method: str, path: str, body: Any, param: str | None
) -> None:
    async with administered(file_url) as admin:
        before = await admin.get("/overview")
        answer = await admin.ask(method, path, body)
        assert (answer.status, answer.code) == (400, "invalid_parameter"), answer.body
        assert answer.param == param
        assert answer.body["error"]["message"]
        assert await admin.get("/overview") == before


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("GET", "/accounts/none", None, "account"),
        ("PATCH", "/accounts/none", {}, "account"),
        ("GET", "/workspaces/none", None, "workspace"),
        ("PATCH", "/workspaces/none", {}, "workspace"),
        ("POST", "/workspaces", {"id": "w", "account": "none"}, "account"),
        ("GET", "/keys/none", None, "key"),
        ("PATCH", "/keys/none", {}, "key"),
        ("POST", "/keys/none/rotate", {}, "key"),
        ("DELETE", "/keys/none", None, "key"),
        # The keyring alone would make it.
        ("POST", "/keys", {"workspace": "mispelled"}, "workspace"),
    ],
)
async def test_what_is_not_there_is_404_by_its_name(
    file_url: str, method: str, path: str, body: Any, param: str
) -> None:
    async with administered(file_url) as admin:
        before = await admin.get("/overview")
        answer = await admin.ask(method, path, body)
        assert (answer.status, answer.code, answer.param) == (404, "not_found", param)
        assert await admin.get("/overview") == before


async def test_lists_come_in_pages_that_miss_nothing(file_url: str) -> None:
    async with administered(file_url) as admin:
        made = [(await admin.ask("POST", "/keys", {"name": str(n)})).body["id"] for n in range(7)]
        seen: list[str] = []
        after = ""
        while True:
            part = await admin.get(f"/keys?limit=3{after}")
            assert len(part["data"]) <= 3
            seen += [key["id"] for key in part["data"]]
            if part["next"] is None:
                break
            assert part["next"] == seen[-1]
            after = f"&after={part['next']}"
        assert sorted(seen) == sorted(made)
        assert len((await admin.get("/keys?limit=7"))["data"]) == 7
        assert (await admin.get("/keys?limit=7"))["next"] is None
