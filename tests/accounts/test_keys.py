"""Goal: the right secret is known in microseconds, any other refused, and changes elsewhere count within a second."""

import asyncio
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from accounts.conftest import Clock
from ownstudio.accounts import keys as module
from ownstudio.accounts.changes import Missing
from ownstudio.accounts.directory import Directory
from ownstudio.accounts.keys import EAGER_S, FRESH_S, Keyring, hash_secret
from ownstudio.accounts.principal import Account, Workspace
from ownstudio.accounts.rules import UNBOUND, Limit, Rules
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.store.database import CONFLICT_TRIES, ConflictError, Database, sqlite_url
from ownstudio.store.directory import StoreError


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database, None]:
    opened = await Database.open(sqlite_url(tmp_path / "o.db"))
    yield opened
    await opened.close()


@pytest.fixture
async def keyring(database: Database, clock: Clock) -> AsyncGenerator[Keyring, None]:
    made = Keyring(database, monotonic=clock, now=clock)
    yield made
    await made.close()


def contents(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


async def refused(keyring: Keyring, secret: str) -> bool:
    with pytest.raises(StudioError) as refusal:
        await keyring.authenticate(secret)
    assert refusal.value.kind is ErrorKind.INVALID_API_KEY
    assert refusal.value.message == "Incorrect API key provided. "
    return True


def counted_looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with every look at the database."""
    looks: list[None] = []
    snapshot = Database.snapshot

    def counted(database: Database) -> object:
        looks.append(None)
        return snapshot(database)

    monkeypatch.setattr(Database, "snapshot", counted)
    return looks


async def test_a_key_stands_for_its_holder(keyring: Keyring):
    new = await keyring.create("laptop", "research", "eu")
    principal = await keyring.authenticate(new.secret)
    assert (principal.key_id, principal.name, principal.region) == (new.id, "laptop", "eu")
    assert (principal.account.id, principal.workspace.id) == ("default", "research")
    assert principal.rules == principal.workspace.rules == principal.account.rules == UNBOUND
    assert keyring.cached(new.secret) == principal


async def test_secrets_are_long_random_and_nowhere_in_the_store(
    keyring: Keyring, database: Database, tmp_path: Path
):
    made = [await keyring.create() for _ in range(3)]
    assert len({new.secret for new in made}) == 3
    for new in made:
        assert new.secret.startswith("sk-")
        assert len(new.secret) == 3 + 43
    async with database.snapshot() as connection:
        stored = str((await connection.execute(text("SELECT * FROM keys"))).all())
    files = contents(tmp_path)
    for new in made:
        assert new.secret not in stored
        assert new.secret.encode() not in files
        assert hash_secret(new.secret) in stored


@pytest.mark.parametrize(
    "secret", ["", "sk-", "sk-" + "x" * 43, "x" * 100_000, "密钥", "\ud800", "\0"]
)
async def test_what_is_no_key_is_refused(keyring: Keyring, secret: str):
    await keyring.create()
    assert await refused(keyring, secret)
    assert keyring.cached(secret) is None


async def test_nearly_the_right_secret_is_refused(keyring: Keyring):
    secret = (await keyring.create()).secret
    for wrong in (secret[:-1], secret + "x", secret.upper(), f" {secret}", secret[3:]):
        assert await refused(keyring, wrong)


async def test_a_key_made_elsewhere_works_at_once_and_one_revoked_elsewhere_stops(
    database: Database, clock: Clock
):
    here, elsewhere = (Keyring(database, monotonic=clock, now=clock) for _ in range(2))
    assert await refused(here, "sk-nothing")
    new = await elsewhere.create()
    clock.seconds += EAGER_S
    assert (await here.authenticate(new.secret)).key_id == new.id
    assert await elsewhere.revoke(new.id)
    clock.seconds += FRESH_S
    assert here.cached(new.secret) is None
    assert await refused(here, new.secret)
    await here.close()


async def test_fresh_knowledge_needs_no_database(
    keyring: Keyring, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    new = await keyring.create()
    await keyring.authenticate(new.secret)
    monkeypatch.setattr(Database, "snapshot", None)
    clock.seconds += FRESH_S - 0.01
    assert keyring.cached(new.secret) is not None
    assert (await keyring.authenticate(new.secret)).key_id == new.id


async def test_a_flood_of_wrong_keys_costs_a_bounded_number_of_looks(
    keyring: Keyring, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    looks = counted_looks(monkeypatch)
    for n in range(1000):
        clock.seconds += 0.001
        await refused(keyring, f"sk-{n}")
    assert 1 <= len(looks) <= 1 / EAGER_S + 1
    assert not keyring._holders.by_hash


async def test_many_at_once_share_one_look(
    keyring: Keyring, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    new = await keyring.create()
    looks = counted_looks(monkeypatch)
    await asyncio.gather(*(keyring.authenticate(new.secret) for _ in range(50)))
    assert len(looks) == 1


async def test_an_expired_key_is_refused_on_the_second(keyring: Keyring, clock: Clock):
    new = await keyring.create(expires_at=int(clock.seconds) + 10)
    clock.seconds += 9
    await keyring.authenticate(new.secret)
    clock.seconds += 1
    assert await refused(keyring, new.secret)
    assert keyring.cached(new.secret) is None


async def test_the_last_use_is_noted_once_a_minute(keyring: Keyring, clock: Clock):
    new = await keyring.create()
    assert (await keyring.list())[0].last_used_at is None
    started = int(clock.seconds)
    for _ in range(61):
        await keyring.authenticate(new.secret)
        await keyring.close()
        noted = (await keyring.list())[0].last_used_at
        assert noted == (started if clock.seconds < started + 60 else started + 60)
        clock.seconds += 1


async def test_the_last_use_of_a_quiet_key_beside_a_busy_one_is_noted(
    keyring: Keyring, clock: Clock
):
    busy, quiet = await keyring.create("busy"), await keyring.create("quiet")
    await keyring.authenticate(busy.secret)
    assert keyring.cached(quiet.secret) is not None
    await keyring.close()
    assert (await keyring.get(quiet.id)).last_used_at == int(clock.seconds)


async def test_a_store_that_takes_no_writes_refuses_no_request(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    new = await keyring.create()

    async def fail(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(module.table, "touch_key", fail)
    assert (await keyring.authenticate(new.secret)).key_id == new.id
    await keyring.close()
    assert "the disk is full" in caplog.text
    assert new.secret not in caplog.text


async def test_a_store_that_cannot_be_read_is_our_fault_and_tells_the_client_nothing(
    keyring: Keyring, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    def fail(_: object) -> None:
        raise StoreError("/secret/path is gone")

    monkeypatch.setattr(Database, "snapshot", fail)
    with pytest.raises(StudioError) as refusal:
        await keyring.authenticate("sk-x")
    assert refusal.value.kind is ErrorKind.STORE_UNAVAILABLE
    assert refusal.value.retry_after == 1
    assert "/secret" not in refusal.value.message
    assert "/secret" in refusal.value.detail


async def test_a_silent_database_keeps_nobody_waiting(
    keyring: Keyring, clock: Clock, request: pytest.FixtureRequest
):
    new = await keyring.create()
    await keyring.authenticate(new.secret)
    silence: asyncio.Event = request.getfixturevalue("silence")
    assert keyring.cached(new.secret) is not None
    clock.seconds += FRESH_S
    async with asyncio.timeout(1):
        refusals = await asyncio.gather(
            *(keyring.authenticate(new.secret) for _ in range(50)), return_exceptions=True
        )
    for refusal in refusals:
        assert isinstance(refusal, StudioError)
        assert (refusal.kind, refusal.retry_after) == (ErrorKind.STORE_UNAVAILABLE, 1)
    # What the database says too late counts all the same.
    silence.set()
    async with asyncio.timeout(5):
        while keyring.cached(new.secret) is None:
            await asyncio.sleep(0.01)


async def test_a_request_that_is_given_up_does_not_end_the_look_of_others(
    keyring: Keyring, silence: asyncio.Event
):
    new = await keyring.create()
    hasty, patient = (asyncio.ensure_future(keyring.authenticate(new.secret)) for _ in range(2))
    await asyncio.sleep(0)
    hasty.cancel()
    silence.set()
    assert (await patient).key_id == new.id


async def test_listed_keys_are_masked_and_revoked_ones_stay(keyring: Keyring, clock: Clock):
    first, second = await keyring.create("a"), await keyring.create("b")
    assert await keyring.revoke(first.id)
    assert not await keyring.revoke(first.id)
    assert not await keyring.revoke("key-unknown")
    listed = {info.id: info for info in await keyring.list()}
    assert listed.keys() == {first.id, second.id}
    assert listed[first.id].revoked_at == int(clock.seconds)
    assert listed[second.id].revoked_at is None
    assert listed[second.id].masked == second.secret[:7] + "…"


async def test_the_first_key_is_made_once_for_its_owner_alone(keyring: Keyring, tmp_path: Path):
    path = tmp_path / "first-key"
    new = await keyring.ensure_first_key(path)
    assert new is not None
    assert path.read_text() == new.secret + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (await keyring.authenticate(path.read_text().strip())).key_id == new.id
    assert await keyring.ensure_first_key(path) is None
    await keyring.revoke(new.id)
    assert await keyring.ensure_first_key(path) is None
    assert path.read_text() == new.secret + "\n"


async def test_many_first_starts_at_once_make_one_first_key(database: Database, tmp_path: Path):
    path = tmp_path / "first-key"
    made = await asyncio.gather(*(Keyring(database).ensure_first_key(path) for _ in range(8)))
    assert [new.secret for new in made if new] == [path.read_text().strip()]


async def test_a_first_key_that_cannot_be_written_down_does_not_exist(
    keyring: Keyring, tmp_path: Path
):
    with pytest.raises(StoreError, match="first key cannot be written"):
        await keyring.ensure_first_key(tmp_path / "nowhere" / "first-key")
    assert await keyring.list() == []
    assert await keyring.ensure_first_key(tmp_path / "first-key") is not None


async def test_a_conflict_with_another_writer_is_tried_again(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
):
    await keyring.create()
    next_revision = module.table.next_revision
    stale = [1, 1]

    async def sometimes_stale(connection: object) -> int:
        return stale.pop() if stale else await next_revision(connection)

    monkeypatch.setattr(module.table, "next_revision", sometimes_stale)
    assert (await keyring.create()).id
    stale += [1] * CONFLICT_TRIES
    with pytest.raises(ConflictError):
        await keyring.create()
    assert len(await keyring.list()) == 2


@pytest.mark.parametrize(
    ("name", "workspace", "region"),
    [
        ("x" * 129, "w", "r"),
        ("a\nb", "w", "r"),
        ("", "", "r"),
        ("", "w w", "r"),
        ("", "w", "é"),
        ("", "w" * 65, "r"),
    ],
)
async def test_names_and_scopes_are_bounded(
    keyring: Keyring, name: str, workspace: str, region: str
):
    with pytest.raises(ValueError, match=r"at most|is not 1 to 64"):
        await keyring.create(name, workspace, region)
    assert await keyring.list() == []


async def test_a_workspace_that_does_not_exist_is_made_with_its_first_key(
    keyring: Keyring, database: Database
):
    assert not (await keyring.create()).made_workspace
    assert (await keyring.create(workspace="new")).made_workspace
    assert not (await keyring.create(workspace="new")).made_workspace
    made = [await keyring.create(workspace=name) for name in ("default", "new")]
    found = [await keyring.authenticate(new.secret) for new in made]
    assert [one.workspace for one in found] == [
        Workspace("default", "default"),
        Workspace("new", "default"),
    ]
    assert isinstance(found[0].account, Account)
    assert len(await Directory(database).workspaces()) == 2


async def test_a_key_is_made_with_its_rules_and_its_end(keyring: Keyring, clock: Clock):
    rules = Rules(models=("qwen-plus",), limits={"*": Limit(60)})
    end = int(clock.seconds) + 60
    new = await keyring.create("n", "w", "eu", end, rules)
    assert (await keyring.authenticate(new.secret)).rules == rules
    await keyring.close()  # its use is noted
    listed = await keyring.get(new.id)
    assert (listed.rules, listed.expires_at, listed.disabled_at) == (rules, end, None)
    for impossible in (
        keyring.create(expires_at=int(clock.seconds)),
        keyring.create(rules=Rules(addresses=("x",))),
        keyring.update(new.id, expires_at=int(clock.seconds) - 1),
        keyring.update(new.id, rules=Rules(models=("*",))),
        keyring.update(new.id, name="a\nb"),
    ):
        with pytest.raises(
            ValueError, match=r"the past|is not an address|leave the models|at most"
        ):
            await impossible
    assert await keyring.list() == [listed]


async def test_a_change_of_a_key_leaves_what_it_does_not_name(keyring: Keyring, clock: Clock):
    end = int(clock.seconds) + 60
    new = await keyring.create("laptop", expires_at=end, rules=Rules(concurrency=2))
    assert (await keyring.authenticate(new.secret)).name == "laptop"
    await keyring.close()
    used_at = (await keyring.get(new.id)).last_used_at
    disabled = await keyring.update(new.id, disabled=True)
    assert disabled.disabled_at == int(clock.seconds)
    clock.seconds += 1
    changed = await keyring.update(new.id, name="desktop", disabled=True)
    assert changed.disabled_at == disabled.disabled_at
    assert (changed.name, changed.expires_at, changed.rules) == (
        "desktop",
        end,
        Rules(concurrency=2),
    )
    changed = await keyring.update(
        new.id,
        disabled=False,
        expires_at=None,
        rules=lambda before: Rules(concurrency=before.concurrency, models=()),
    )
    assert changed == await keyring.get(new.id)
    assert (changed.disabled_at, changed.expires_at, changed.last_used_at) == (None, None, used_at)
    assert changed.rules == Rules(concurrency=2, models=())


async def test_a_disabled_key_that_has_expired_is_like_any_expired_key(
    keyring: Keyring, clock: Clock
):
    new = await keyring.create(expires_at=int(clock.seconds) + 10)
    await keyring.update(new.id, disabled=True)
    with pytest.raises(StudioError, match=r"API-key is blocked\."):
        await keyring.authenticate(new.secret)
    clock.seconds += 10
    assert await refused(keyring, new.secret)


async def test_a_rotated_key_is_the_old_one_with_a_new_secret(keyring: Keyring, clock: Clock):
    end = int(clock.seconds) + 1000
    old = await keyring.create("laptop", "w", "eu", end, Rules(concurrency=2))
    new = await keyring.rotate(old.id)
    assert new.secret != old.secret
    before, after = await keyring.get(old.id), await keyring.get(new.id)
    assert before.revoked_at == int(clock.seconds)
    assert (after.name, after.workspace, after.region, after.expires_at, after.rules) == (
        "laptop",
        "w",
        "eu",
        end,
        Rules(concurrency=2),
    )
    assert await refused(keyring, old.secret)
    assert (await keyring.authenticate(new.secret)).key_id == new.id


async def test_an_overlap_ends_the_old_key_later_but_never_later_than_its_own_end(
    keyring: Keyring, clock: Clock
):
    lasting, ending = (
        await keyring.create(),
        await keyring.create(expires_at=int(clock.seconds) + 30),
    )
    for old in (lasting, ending):
        await keyring.rotate(old.id, overlap_s=60)
    clock.seconds += 29
    for old in (lasting, ending):
        await keyring.authenticate(old.secret)
    clock.seconds += 1
    assert await refused(keyring, ending.secret)
    await keyring.authenticate(lasting.secret)
    clock.seconds += 30
    assert await refused(keyring, lasting.secret)


async def test_rotating_a_disabled_key_makes_no_way_around_it(keyring: Keyring):
    old = await keyring.create()
    await keyring.update(old.id, disabled=True)
    new = await keyring.rotate(old.id)
    assert new.disabled
    with pytest.raises(StudioError, match=r"API-key is blocked\."):
        await keyring.authenticate(new.secret)


async def test_a_rotation_that_fails_leaves_the_old_key_as_it_was(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch
):
    old = await keyring.create()

    async def fail(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(module.table, "insert_key", fail)
    with pytest.raises(StoreError, match="the disk is full"):
        await keyring.rotate(old.id)
    assert (await keyring.authenticate(old.secret)).key_id == old.id


async def test_a_key_that_is_no_more_cannot_be_changed_or_rotated(keyring: Keyring, clock: Clock):
    revoked, expired = (
        await keyring.create(),
        await keyring.create(expires_at=int(clock.seconds) + 1),
    )
    await keyring.revoke(revoked.id)
    clock.seconds += 1
    for asked in (
        keyring.update(revoked.id, disabled=False),
        keyring.update("key-unknown", name="x"),
        keyring.rotate(revoked.id),
        keyring.rotate(expired.id),
        keyring.rotate("key-unknown"),
        keyring.get("key-unknown"),
    ):
        with pytest.raises(Missing, match="is no key in use"):
            await asked
    with pytest.raises(ValueError, match="an overlap is 0 to"):
        await keyring.rotate(expired.id, overlap_s=-1)
    assert len(await keyring.list()) == 2


async def test_two_that_rotate_one_key_at_once_do_not_both_succeed(either: Database):
    keyring = Keyring(either)
    old = await keyring.create()
    made = await asyncio.gather(*(keyring.rotate(old.id) for _ in range(4)), return_exceptions=True)
    assert sorted(isinstance(one, Missing) for one in made) == [False, True, True, True]
    assert len(await keyring.list()) == 2


async def test_keys_made_at_once_in_a_new_workspace_all_exist(either: Database):
    keyrings = [Keyring(either) for _ in range(8)]
    made = await asyncio.gather(*(one.create(workspace="new") for one in keyrings))
    assert [new.made_workspace for new in made].count(True) == 1
    for new in made:
        assert (await keyrings[0].authenticate(new.secret)).workspace.id == "new"
    await keyrings[0].close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.text(st.characters(), max_size=300))
async def test_any_text_is_refused_or_known(keyring: Keyring, secret: str):
    assert await refused(keyring, secret)
