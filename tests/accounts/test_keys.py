"""Goal: the right secret is known in microseconds, any other refused, and changes elsewhere count within a second."""

import asyncio
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from ownstudio.accounts import keys as module
from ownstudio.accounts.keys import EAGER_S, FRESH_S, Keyring, hash_secret
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.store.database import ConflictError, Database, sqlite_url
from ownstudio.store.directory import StoreError


class Clock:
    """Both clocks of a keyring, turned by hand."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database, None]:
    opened = await Database.open(sqlite_url(tmp_path / "o.db"))
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keyring(database: Database, clock: Clock) -> Keyring:
    return Keyring(database, monotonic=clock, now=clock)


def contents(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


async def refused(keyring: Keyring, secret: str) -> bool:
    with pytest.raises(StudioError) as refusal:
        await keyring.authenticate(secret)
    assert refusal.value.kind is ErrorKind.INVALID_API_KEY
    assert refusal.value.message == "Incorrect API key provided. "
    return True


async def test_a_key_stands_for_its_holder(keyring: Keyring):
    new = await keyring.create("laptop", "research", "eu")
    principal = await keyring.authenticate(new.secret)
    assert (principal.key_id, principal.name, principal.workspace, principal.region) == (
        new.id,
        "laptop",
        "research",
        "eu",
    )
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
    looks = 0
    keys_since = module.table.keys_since

    async def counted(*arguments: object) -> object:
        nonlocal looks
        looks += 1
        return await keys_since(*arguments)

    monkeypatch.setattr(module.table, "keys_since", counted)
    for n in range(1000):
        clock.seconds += 0.001
        await refused(keyring, f"sk-{n}")
    assert looks <= 1 / EAGER_S + 1
    assert not keyring._held


async def test_many_at_once_share_one_look(
    keyring: Keyring, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    new = await keyring.create()
    looks = 0
    keys_since = module.table.keys_since

    async def counted(*arguments: object) -> object:
        nonlocal looks
        looks += 1
        return await keys_since(*arguments)

    monkeypatch.setattr(module.table, "keys_since", counted)
    await asyncio.gather(*(keyring.authenticate(new.secret) for _ in range(50)))
    assert looks == 1


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
    async def fail(*_: object) -> None:
        raise StoreError("/secret/path is gone")

    monkeypatch.setattr(module.table, "keys_since", fail)
    with pytest.raises(StudioError) as refusal:
        await keyring.authenticate("sk-x")
    assert refusal.value.kind is ErrorKind.INTERNAL
    assert "/secret" not in refusal.value.message
    assert "/secret" in refusal.value.detail


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
    stale += [1] * module.CONFLICT_TRIES
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.text(st.characters(), max_size=300))
async def test_any_text_is_refused_or_known(keyring: Keyring, secret: str):
    assert await refused(keyring, secret)
