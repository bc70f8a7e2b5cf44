"""Goal: what is paid, priced, used and booked is told over HTTP exactly, on either database."""

import time
from pathlib import Path
from typing import Any

import pytest

from ownstudio.billing.ledger import Hold
from ownstudio.core.events import Usage
from ownstudio.store.database import sqlite_url
from support.admin import Admin, administered
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


PRICE = {
    "model": "qwen-plus",
    "region": "local",
    "tiers": [
        {"upto": 1000, "input": "0.4", "output": "1.2"},
        {"input": "0.000000001", "output": "3", "thinking": "4"},
    ],
    "cache": {"implicit_hit": 20, "explicit_hit": 10, "creation": 125},
}


async def answered(admin: Admin, receipt: str, tokens: int, workspace: str = "default") -> int:
    """Put an answer on the ledger; what it cost in nano-units."""
    # A price takes over with the next whole second.
    price = admin.prices.price("qwen-plus", "local", time.time() + 1)
    hold = Hold(
        receipt=receipt,
        account="default",
        workspace=workspace,
        key_id="key-1",
        region="local",
        model="qwen-plus",
        price=price,
        prompt_tokens=tokens,
        completion_max=tokens,
        expires_at=int(time.time()) + 60,
    )
    held = await admin.ledger.hold(hold)
    return await admin.ledger.settle(held, Usage(tokens, tokens), "stop")


async def test_a_payment_is_in_the_balance_and_on_the_ledger(url: str) -> None:
    async with administered(url) as admin:
        assert (await admin.ask("POST", "/prices", {"prices": [PRICE]})).status == 201
        paid = await admin.ask(
            "POST", "/accounts/default/payments", {"amount": "12.500000001", "note": "invoice 7"}
        )
        assert paid.status == 201
        assert paid.body["amount"] == "12.500000001"
        cost = await answered(admin, "r-1", 1000)
        assert cost == 1_600_000
        assert await admin.get("/accounts/default/balance") == {
            "account": "default",
            "currency": "USD",
            "paid": "12.500000001",
            "spent": "0.0016",
            "held": "0",
            "balance": "12.498400001",
            "available": "12.498400001",
        }
        (entry,) = (await admin.get(f"/ledger/{paid.body['receipt']}"))["data"]
        assert (entry["kind"], entry["amount"]) == ("payment", "12.500000001")
        assert (entry["account"], entry["note"]) == ("default", "invoice 7")
        held, settled = (await admin.get("/ledger/r-1"))["data"]
        assert (held["kind"], settled["kind"]) == ("hold", "settle")
        assert (settled["amount"], settled["completion_tokens"]) == ("0.0016", 1000)
        (line, *_) = (await admin.get("/audit"))["data"]
        assert (line["action"], line["target"]) == ("account.pay", "default")
        assert line["detail"]["receipt"] == paid.body["receipt"]


async def test_a_payment_sent_again_with_its_reference_is_made_once(url: str) -> None:
    payment = {"amount": "12.5", "reference": "bank-2026-11-0042"}
    async with administered(url) as admin:
        first = await admin.ask("POST", "/accounts/default/payments", payment)
        again = await admin.ask("POST", "/accounts/default/payments", payment)
        assert (first.status, again.status) == (201, 200)
        assert again.body == first.body
        other = await admin.ask("POST", "/accounts/default/payments", payment | {"amount": "13"})
        assert other.status == 409
        assert (other.body["error"]["code"], other.body["error"]["param"]) == (
            "conflict",
            "reference",
        )
        assert (await admin.get("/accounts/default/balance"))["paid"] == "12.5"
        lines = (await admin.get("/audit"))["data"]
        assert [line["outcome"] for line in lines] == ["refused", "done", "done"]
        assert [line["detail"].get("new") for line in lines] == [None, False, True]


async def test_usage_adds_up_by_what_is_asked(url: str) -> None:
    async with administered(url) as admin:
        await admin.ask("POST", "/prices", {"prices": [PRICE]})
        for number, workspace in enumerate(("a", "a", "b")):
            await answered(admin, f"r-{number}", 100, workspace)
        used = await admin.get("/usage?by=workspace,day")
        today = time.strftime("%Y-%m-%d", time.gmtime())
        assert [(line["workspace"], line["day"], line["requests"]) for line in used["data"]] == [
            ("a", today, 2),
            ("b", today, 1),
        ]
        assert used["data"][0]["amount"] == "0.00032"
        assert used["total"] == {
            "requests": 3,
            "prompt_tokens": 300,
            "cached_tokens": 0,
            "cache_creation_tokens": 0,
            "completion_tokens": 300,
            "reasoning_tokens": 0,
            "free_tokens": 0,
            "amount": "0.00048",
        }
        assert used["currency"] == "USD"
        assert used["next"] is None
        first = await admin.get("/usage?by=workspace&limit=1")
        assert [line["workspace"] for line in first["data"]] == ["a"]
        assert first["total"]["requests"] == 3
        rest = await admin.get(f"/usage?by=workspace&limit=1&after={first['next']}")
        assert [line["workspace"] for line in rest["data"]] == ["b"]
        assert rest["next"] is None
        assert (await admin.get("/usage?workspace=b&key=key-1"))["total"]["requests"] == 1
        assert (await admin.get("/usage?model=qwen-max"))["total"]["requests"] == 0
        assert (await admin.get("/usage?from=2020-01-01&to=2020-02-01"))["total"]["requests"] == 0
        now = int(time.time())
        assert (await admin.get(f"/usage?from={now - 60}&to={now + 60}"))["total"]["requests"] == 3


async def test_a_day_that_ends_the_usage_is_part_of_it(file_url: str) -> None:
    async with administered(file_url) as admin:
        await admin.ask("POST", "/prices", {"prices": [PRICE]})
        await answered(admin, "r", 100, "a")
        today = time.strftime("%Y-%m-%d", time.gmtime())
        used = await admin.get(f"/usage?from={today}&to={today}")
        assert used["total"]["requests"] == 1
        assert used["to"] - used["from"] == 86_400


async def test_prices_are_imported_whole_and_listed_with_their_origin(url: str) -> None:
    soon = int(time.time()) + 3600
    async with administered(url) as admin:
        made = await admin.ask(
            "POST", "/prices", {"prices": [PRICE], "effective_from": soon, "note": "autumn"}
        )
        assert made.status == 201
        (price,) = made.body["data"]
        assert price.pop("id") > 0
        shown = PRICE | {"tiers": [PRICE["tiers"][0] | {"thinking": "1.2"}, PRICE["tiers"][1]]}  # type: ignore[operator,index]
        assert price == shown | {
            "currency": "USD",
            "effective_from": soon,
            "origin": "import: autumn",
        }
        assert (await admin.get("/prices?model=qwen-plus"))["data"] == []
        listed = await admin.get(f"/prices?model=qwen-plus&region=local&at={soon}")
        assert [one["origin"] for one in listed["data"]] == ["import: autumn"]
        everywhere = await admin.get("/prices?limit=1")
        assert everywhere["data"][0]["model"] == "*"
        assert len((await admin.get(f"/prices?after={everywhere['next']}"))["data"]) == 3


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "/accounts/default/payments", {"amount": 12.5}, "amount"),
        ("POST", "/accounts/default/payments", {"amount": "0"}, None),
        ("POST", "/accounts/default/payments", {"amount": "-5"}, "amount"),
        ("POST", "/accounts/default/payments", {"amount": "5 USD"}, "amount"),
        ("POST", "/accounts/default/payments", {"amount": "0.0000000001"}, "amount"),
        ("POST", "/accounts/default/payments", {"amount": "9" * 30}, "amount"),
        ("POST", "/accounts/default/payments", {"amount": "5", "note": "a\u0000b"}, None),
        ("POST", "/accounts/default/payments", {"amount": "5", "note": "x" * 201}, "note"),
        ("POST", "/accounts/default/payments", {"amount": "5", "account": "b"}, "account"),
        ("POST", "/prices", {"prices": []}, "prices"),
        ("POST", "/prices", {"prices": [PRICE, PRICE]}, None),
        ("POST", "/prices", {"prices": [PRICE], "effective_from": 1}, None),
        ("POST", "/prices", {"prices": [PRICE | {"region": "moon"}]}, "prices[0].region"),
        ("POST", "/prices", {"prices": [PRICE | {"model": ""}]}, None),
        ("POST", "/prices", {"prices": [PRICE | {"cost": 1}]}, "prices[0].cost"),
        ("POST", "/prices", {"prices": [PRICE, PRICE | {"tiers": []}]}, "prices[1].tiers"),
        (
            "POST",
            "/prices",
            {"prices": [PRICE | {"tiers": [{"input": "x", "output": "1"}]}]},
            "prices[0]",
        ),
        (
            "POST",
            "/prices",
            {"prices": [PRICE | {"tiers": [{"input": 1, "output": "1"}]}]},
            "prices[0].tiers[0].input",
        ),
        ("GET", "/prices?at=-1", None, "at"),
        ("GET", "/usage?by=colour", None, "by"),
        ("GET", "/usage?from=yesterday", None, "from"),
        ("GET", "/usage?to=2026-02-30", None, "to"),
        ("GET", "/usage?account=%00", None, "account"),
        ("GET", "/usage?model=%00", None, "model"),
        ("GET", "/usage?region=moon", None, "region"),
        ("GET", "/ledger/%00", None, "receipt"),
    ],
)
async def test_what_cannot_be_is_named_and_books_nothing(
    file_url: str, method: str, path: str, body: Any, param: str | None
) -> None:
    async with administered(file_url) as admin:
        prices = await admin.get("/prices")
        answer = await admin.ask(method, path, body)
        assert (answer.status, answer.code) == (400, "invalid_parameter"), answer.body
        assert answer.param == param
        assert await admin.get("/prices") == prices
        assert (await admin.get("/accounts/default/balance"))["balance"] == "0"


@pytest.mark.parametrize(
    ("method", "path", "param"),
    [
        ("POST", "/accounts/none/payments", "account"),
        ("GET", "/accounts/none/balance", "account"),
        ("GET", "/ledger/none", "receipt"),
    ],
)
async def test_money_of_nobody_is_404(file_url: str, method: str, path: str, param: str) -> None:
    async with administered(file_url) as admin:
        answer = await admin.ask(method, path, {"amount": "5"} if method == "POST" else None)
        assert (answer.status, answer.code, answer.param) == (404, "not_found", param)
        assert (await admin.ledger.balance("none")).granted == 0


async def test_a_payment_that_the_store_did_not_take_is_no_refusal_in_the_log(
    file_url: str,
) -> None:
    async with administered(file_url) as admin:
        async with admin.database.transaction() as connection:
            await connection.exec_driver_sql("DROP TABLE entries")
        answer = await admin.ask("POST", "/accounts/default/payments", {"amount": "5"})
        assert (answer.status, answer.code) == (503, "store_unavailable")
        (line,) = (await admin.get("/audit"))["data"]
        assert (line["action"], line["outcome"]) == ("account.pay", "failed")
