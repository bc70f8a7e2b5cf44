"""Goal: accounts and workspaces are made, changed and listed, on either database, and nothing impossible is stored."""

import asyncio

import pytest
from sqlalchemy import text

from accounts.conftest import Clock
from ownstudio.accounts.changes import Missing, Taken
from ownstudio.accounts.directory import Directory
from ownstudio.accounts.principal import Account, Workspace
from ownstudio.accounts.rules import NOTHING, UNBOUND, Budget, Limit, Rules
from ownstudio.store.database import Database

RULES = Rules(
    models=("qwen-plus",),
    addresses=("10.0.0.0/8",),
    limits={"*": Limit(60, 100_000)},
    concurrency=4,
    budget=Budget(12_500_000_000),
)


@pytest.fixture
def directory(either: Database, clock: Clock) -> Directory:
    return Directory(either, now=clock)


async def test_a_new_database_has_a_default_account_with_a_default_workspace(directory: Directory):
    assert [(one.id, one.prepaid, one.rules) for one in await directory.accounts()] == [
        ("default", False, UNBOUND)
    ]
    assert await directory.workspaces() == [Workspace("default", "default")]


async def test_what_is_made_is_found_again(directory: Directory, clock: Clock):
    made = await directory.create_account(
        "shop", name="The shop", prepaid=True, free_only=frozenset({"*"}), rules=RULES
    )
    assert made == Account(
        "shop", "The shop", int(clock.seconds), True, False, frozenset({"*"}), RULES
    )
    assert await directory.account("shop") == made
    workspace = await directory.create_workspace("web", account="shop", name="Web", rules=RULES)
    assert workspace == Workspace("web", "shop", "Web", RULES)
    assert await directory.workspace("web") == workspace
    assert {one.id for one in await directory.accounts()} == {"default", "shop"}
    assert await directory.workspaces("shop") == [workspace]
    assert len(await directory.workspaces()) == 2


async def test_a_change_leaves_what_it_does_not_name(directory: Directory):
    await directory.create_account("shop", name="The shop", prepaid=True, rules=RULES)
    changed = await directory.update_account("shop", suspended=True)
    assert (changed.name, changed.prepaid, changed.suspended, changed.rules) == (
        "The shop",
        True,
        True,
        RULES,
    )
    changed = await directory.update_account(
        "shop", name="", prepaid=False, free_only=frozenset({"qwen-max"}), rules=UNBOUND
    )
    assert changed == await directory.account("shop")
    assert (changed.name, changed.prepaid, changed.suspended) == ("", False, True)
    assert changed.only_free("qwen-max")
    assert changed.rules == UNBOUND
    await directory.create_workspace("web", account="shop", name="Web", rules=RULES)
    assert (await directory.update_workspace("web", name="W")).rules == RULES
    assert (await directory.update_workspace("web", rules=UNBOUND)).name == "W"


async def test_changes_at_the_same_time_all_count(directory: Directory):
    def adding(number: int):
        return lambda rules: Rules(models=(*(rules.models or ()), str(number)))

    await asyncio.gather(
        *(directory.update_account("default", rules=adding(number)) for number in range(8)),
        *(directory.update_workspace("default", rules=adding(number)) for number in range(8)),
    )
    for one in (await directory.account("default"), await directory.workspace("default")):
        assert sorted(one.rules.models or ()) == [str(number) for number in range(8)]


async def test_of_two_that_make_the_same_one_is_told_so(directory: Directory):
    for make in (directory.create_account, directory.create_workspace):
        made = await asyncio.gather(*(make("twin") for _ in range(4)), return_exceptions=True)
        assert sorted(isinstance(one, Taken) for one in made) == [False, True, True, True]
        assert all("twin exists already" in str(one) for one in made if isinstance(one, Taken))


async def test_what_is_not_there_is_missing_and_stays_so(directory: Directory):
    for asked in (
        directory.account("nope"),
        directory.update_account("nope", name="x"),
        directory.workspace("nope"),
        directory.update_workspace("nope", name="x"),
        directory.create_workspace("web", account="nope"),
    ):
        with pytest.raises(Missing, match=r"there is no .* 'nope'"):
            await asked
    assert len(await directory.workspaces()) == 1
    assert await directory.workspaces("nope") == []


async def test_ids_are_bounded(directory: Directory):
    for bad in ("", "a b", "é", "-a", "x" * 65, "a/b", "a\n"):
        with pytest.raises(ValueError, match=r"the account .* is not 1 to 64"):
            await directory.create_account(bad)
        with pytest.raises(ValueError, match=r"the workspace .* is not 1 to 64"):
            await directory.create_workspace(bad)
    for good in ("a", "0", "A.b_c-d", "x" * 64):
        assert (await directory.create_account(good)).id == good


async def test_what_cannot_be_is_refused_and_changes_nothing(directory: Directory):
    impossible = Rules(addresses=("10.0.0.1/8",))
    for asked in (
        directory.create_account("a", rules=impossible),
        directory.create_account("a", free_only=frozenset({""})),
        directory.create_account("a", name="x" * 129),
        directory.create_workspace("a", rules=impossible),
        directory.create_workspace("a", name="a\nb"),
        directory.update_account("default", name="y", rules=impossible),
        directory.update_account("default", free_only=frozenset({"\n"})),
        directory.update_workspace("default", name="y", rules=lambda _: impossible),
    ):
        with pytest.raises(ValueError, match=r"is not|at most"):
            await asked
    assert [one.name for one in await directory.accounts()] == [""]
    assert await directory.workspaces() == [Workspace("default", "default")]


async def test_what_was_spoilt_by_hand_allows_nothing(
    directory: Directory, either: Database, caplog: pytest.LogCaptureFixture
):
    for broken in ("", "[]", '{"modles": []}', '{"addresses": ["x"]}'):
        caplog.clear()
        async with either.transaction() as connection:
            for table in ("accounts", "workspaces"):
                statement = text(f"UPDATE {table} SET rules = :rules")
                await connection.execute(statement, {"rules": broken})
            await connection.execute(text("UPDATE accounts SET free_only = '{'"))
        account = await directory.account("default")
        assert account.rules == (await directory.workspace("default")).rules == NOTHING
        assert account.only_free("anything")
        assert "the rules of workspace default cannot be read" in caplog.text
