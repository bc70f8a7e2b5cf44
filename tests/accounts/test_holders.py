"""Goal: what is changed in one process is so in every other within a second, on either database, and none is missed."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest
from sqlalchemy import text

from accounts.conftest import Clock
from ownstudio.accounts import holders as module
from ownstudio.accounts.directory import Directory
from ownstudio.accounts.holders import Holders
from ownstudio.accounts.keys import FRESH_S, Keyring, hash_secret
from ownstudio.accounts.principal import Principal
from ownstudio.accounts.rules import NOTHING, UNBOUND, Limit, Rules
from ownstudio.core.errors import StudioError
from ownstudio.store.database import Database

Keyrings = tuple[Keyring, Keyring]


@pytest.fixture
async def keyrings(either: Database, clock: Clock) -> AsyncGenerator[Keyrings, None]:
    """Of two processes."""
    first, second = (Keyring(either, monotonic=clock, now=clock) for _ in range(2))
    yield first, second
    for keyring in (first, second):
        await keyring.close()


async def refusal(keyring: Keyring, secret: str) -> str:
    with pytest.raises(StudioError) as refused:
        await keyring.authenticate(secret)
    assert keyring.cached(secret) is None
    return refused.value.message


async def test_a_change_of_rules_at_any_level_reaches_the_other_process(
    keyrings: Keyrings, either: Database, clock: Clock
):
    here, elsewhere = keyrings
    directory = Directory(either)
    await directory.create_account("shop")
    await directory.create_workspace("web", account="shop")
    new = await elsewhere.create(workspace="web")
    tighter = Rules(limits={"*": Limit(1)})
    read: list[tuple[Callable[[Principal], Rules], Callable[..., object]]] = [
        (lambda found: found.rules, lambda: elsewhere.update(new.id, rules=tighter)),
        (
            lambda found: found.workspace.rules,
            lambda: directory.update_workspace("web", rules=tighter),
        ),
        (
            lambda found: found.account.rules,
            lambda: directory.update_account("shop", rules=tighter),
        ),
    ]
    for rules_of, change in read:
        found = await here.authenticate(new.secret)
        assert rules_of(found) == UNBOUND
        await change()  # type: ignore[misc]
        assert here.cached(new.secret) == found
        clock.seconds += FRESH_S
        assert here.cached(new.secret) is None
        changed = await here.authenticate(new.secret)
        assert rules_of(changed) == tighter
        assert here.cached(new.secret) is changed
    await directory.update_account("shop", suspended=True, free_only=frozenset({"*"}))
    clock.seconds += FRESH_S
    account = (await here.authenticate(new.secret)).account
    assert account.suspended
    assert account.only_free("any")


async def test_disabling_enabling_and_revoking_reach_the_other_process(
    keyrings: Keyrings, clock: Clock
):
    here, elsewhere = keyrings
    new = await elsewhere.create()
    assert (await here.authenticate(new.secret)).key_id == new.id
    await elsewhere.update(new.id, disabled=True)
    clock.seconds += FRESH_S
    assert await refusal(here, new.secret) == "API-key is blocked."
    await elsewhere.update(new.id, disabled=False)
    clock.seconds += FRESH_S
    assert (await here.authenticate(new.secret)).key_id == new.id
    await elsewhere.revoke(new.id)
    clock.seconds += FRESH_S
    assert await refusal(here, new.secret) == "Incorrect API key provided. "


async def test_a_rotated_key_gives_way_in_the_other_process(keyrings: Keyrings, clock: Clock):
    here, elsewhere = keyrings
    old = await elsewhere.create("laptop", rules=Rules(concurrency=3))
    await here.authenticate(old.secret)
    new = await elsewhere.rotate(old.id)
    clock.seconds += FRESH_S
    assert await refusal(here, old.secret) == "Incorrect API key provided. "
    found = await here.authenticate(new.secret)
    assert (found.key_id, found.name, found.rules) == (new.id, "laptop", Rules(concurrency=3))


async def test_one_look_brings_a_key_with_its_new_workspace_and_account(
    keyrings: Keyrings, either: Database, clock: Clock
):
    here, elsewhere = keyrings
    await here.authenticate((await elsewhere.create()).secret)
    await Directory(either).create_account("shop")
    await Directory(either).create_workspace("web", account="shop", rules=NOTHING)
    new = await elsewhere.create(workspace="web")
    clock.seconds += FRESH_S
    found = await here.authenticate(new.secret)
    assert (found.account.id, found.workspace.id) == ("shop", "web")
    assert found.workspace.rules == NOTHING


async def test_no_change_is_missed_while_many_write(either: Database):
    """On PostgreSQL writers truly overlap, and two changes of a row could have been given one number."""
    writers = [Keyring(either) for _ in range(4)]
    secrets = [(await writers[0].create()).secret for _ in range(2)]
    holders, done = Holders(), asyncio.Event()
    await holders.take_in(either)
    ids = [held.row.id for held in holders.by_hash.values()]

    def adding(number: int):
        return lambda rules: Rules(models=(*(rules.models or ()), str(number)))

    async def read() -> None:
        while not done.is_set():
            await holders.take_in(either)

    async def write(writer: int) -> None:
        for key_id in ids:
            await writers[writer].update(key_id, rules=adding(writer))

    reading = asyncio.ensure_future(read())
    await asyncio.gather(*(write(writer) for writer in range(4)))
    done.set()
    await reading
    await holders.take_in(either)
    for secret in secrets:
        principal = holders.by_hash[hash_secret(secret)].principal
        assert principal is not None
        assert sorted(principal.rules.models or ()) == ["0", "1", "2", "3"]


async def test_a_key_whose_workspace_is_not_there_stands_for_nobody(
    keyrings: Keyrings, either: Database, clock: Clock
):
    here, elsewhere = keyrings
    new = await elsewhere.create()
    async with either.transaction() as connection:
        await connection.execute(text("UPDATE keys SET workspace = 'gone'"))
    assert await refusal(here, new.secret) == "Incorrect API key provided. "
    await Directory(either).create_workspace("gone")
    clock.seconds += FRESH_S
    assert (await here.authenticate(new.secret)).workspace.id == "gone"


async def test_rules_of_a_key_spoilt_by_hand_allow_nothing_and_stop_nobody_else(
    keyrings: Keyrings, either: Database
):
    here, elsewhere = keyrings
    spoilt, sound = await elsewhere.create(), await elsewhere.create()
    async with either.transaction() as connection:
        await connection.execute(
            text("UPDATE keys SET rules = '{' WHERE id = :id"), {"id": spoilt.id}
        )
    assert (await here.authenticate(spoilt.secret)).rules == NOTHING
    assert (await here.authenticate(sound.secret)).rules == UNBOUND


async def test_nothing_new_costs_one_statement(
    keyrings: Keyrings, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    here, elsewhere = keyrings
    new = await elsewhere.create()
    await here.authenticate(new.secret)
    monkeypatch.setattr(module, "key_table", None)
    monkeypatch.setattr(module.account_table, "workspaces_since", None)
    monkeypatch.setattr(module.account_table, "accounts_since", None)
    clock.seconds += FRESH_S
    assert (await here.authenticate(new.secret)).key_id == new.id
