"""What a request passes and what it settles: each ending on the ledger, limits, budgets, quotas, the cache."""

import asyncio
from contextlib import aclosing, suppress

import msgspec
import pytest

from ownstudio.accounts.principal import Account, Principal, Workspace
from ownstudio.accounts.rules import UNBOUND, Budget, Limit, Rules
from ownstudio.billing.prices import Terms
from ownstudio.catalog import Model, Offer, PriceTier
from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.core.events import Event, Started, Usage, collect
from ownstudio.core.request import Block, ChatPrompt, GenerationRequest, Message
from ownstudio.engines.base import Chunk, EngineFinish
from ownstudio.limits.limiter import Policy
from ownstudio.limits.terms import Pace
from ownstudio.metrics import Metrics
from ownstudio.service.admission import Desk, DeskTerms, Visit
from ownstudio.service.generation import Generation
from ownstudio.store.directory import StoreError
from support.desk import ACCOUNT, MemoryLedgerStore, desk, visit
from support.scripted import Die, ScriptedEngine, Stall, Step, text_chunks
from support.studio import MODEL, Settled, chat, deployment

# One nano-unit for a token of input, two for one of output.
PRICED = Terms((PriceTier(None, 10**6, 2 * 10**6, 2 * 10**6),), 20, 10, 125)
PROMPT = 11
MAX = 100
UNHURRIED = Policy(pace=Pace(per_second=False))


def principal(
    account: Account = ACCOUNT, workspace: Rules = UNBOUND, key: Rules = UNBOUND
) -> Principal:
    group = Workspace("default", account.id, rules=workspace)
    return Principal("key-1", "test", account, group, "local", key)


def run(
    front: Desk,
    *script: Step,
    who: Visit | None = None,
    request: GenerationRequest | None = None,
    model: Model = MODEL,
) -> Generation:
    home, asked = deployment(ScriptedEngine(script)), request or chat(max_tokens=MAX)
    return Generation(home, model, asked, who or visit(), front, 10, Settled())


async def events_of(generation: Generation) -> list[Event]:
    async with aclosing(generation.events()) as batches:
        return [event async for batch in batches for event in batch]


async def refused(generation: Generation) -> StudioError:
    with pytest.raises(StudioError) as failure:
        await events_of(generation)
    return failure.value


def spent(store: MemoryLedgerStore, scope: str = "account:default") -> tuple[int, int]:
    """What a scope has spent and what it holds."""
    row = store.funds.get(scope)
    return (0, 0) if row is None else (row.spent, row.held)


async def test_a_whole_answer_is_held_for_its_most_and_settled_for_what_it_was() -> None:
    store, who = MemoryLedgerStore(), visit()
    await events_of(run(desk(store, terms=PRICED), text_chunks("Hel", "lo"), who=who))
    hold, settlement = store.entries
    assert (hold.kind, hold.amount, hold.reserved_tokens) == (
        "hold",
        PROMPT + 2 * MAX,
        PROMPT + MAX,
    )
    assert (settlement.kind, settlement.amount, settlement.ending) == ("settle", PROMPT + 4, "stop")
    assert {hold.receipt, settlement.receipt} == {who.receipt}
    assert spent(store) == (PROMPT + 4, 0)


async def test_the_end_of_an_answer_is_said_only_once_it_is_settled() -> None:
    store, who = MemoryLedgerStore(), visit()
    async with aclosing(run(desk(store), text_chunks("Hel", "lo"), who=who).events()) as batches:
        async for batch in batches:
            ended = any(not isinstance(event, Started) for event in batch)
            last = type(batch[-1]).__name__ == "Done"
            assert ended
            assert ("settle" in store.kinds(who.receipt)) == last


async def test_an_answer_that_cannot_be_put_on_the_ledger_ends_in_an_error_and_costs_nothing() -> (
    None
):
    store, who = MemoryLedgerStore(), visit()
    chunks = text_chunks("Hel", "lo")
    generation = run(desk(store, terms=PRICED), chunks[:1], chunks[1:], who=who)

    async def read() -> None:
        async with aclosing(generation.events()) as batches:
            async for _ in batches:
                store.failure = StoreError("the disk is full")

    with pytest.raises(StudioError) as failure:
        await read()
    assert failure.value.kind is ErrorKind.STORE_UNAVAILABLE
    store.failure = None
    await asyncio.sleep(0.01)
    assert store.kinds(who.receipt) == ["hold"]


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ([Die()], "engine_unavailable"),
        ([text_chunks("Hel", "lo")[:1], Die()], "engine_died"),
    ],
)
async def test_what_we_break_off_costs_nothing(script: list[Step], ending: str) -> None:
    store = MemoryLedgerStore()
    await refused(run(desk(store, terms=PRICED), *script, *script))
    assert [entry.kind for entry in store.entries] == ["hold", "release"]
    assert store.entries[1].ending == ending
    assert spent(store) == (0, 0)


async def test_a_client_that_hangs_up_pays_for_what_was_written() -> None:
    store = MemoryLedgerStore()
    generation = run(desk(store, terms=PRICED), text_chunks("Hel", "lo")[:2], Stall())
    async with aclosing(generation.events()) as batches:
        await anext(batches)
    assert [entry.kind for entry in store.entries] == ["hold", "settle"]
    assert store.entries[1].ending == "hang_up"
    assert spent(store) == (PROMPT + 2 * store.entries[1].completion_tokens, 0)


async def test_a_client_that_hangs_up_before_the_first_token_pays_nothing() -> None:
    store = MemoryLedgerStore()
    task = asyncio.ensure_future(events_of(run(desk(store, terms=PRICED), Stall())))
    while not store.entries:
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [entry.kind for entry in store.entries] == ["hold", "release"]


async def test_a_refused_request_is_not_on_the_ledger() -> None:
    store = MemoryLedgerStore()
    await refused(run(desk(store), request=chat("x" * 10**6)))
    assert store.entries == []


async def test_limits_of_account_workspace_and_key_all_hold() -> None:
    minute = Limit(requests_per_minute=2)
    for rules in (
        principal(Account("default", rules=Rules(limits={"*": minute}))),
        principal(workspace=Rules(limits={MODEL.name: minute})),
        principal(key=Rules(limits={MODEL.name: minute, "*": Limit(requests_per_minute=9)})),
    ):
        store = MemoryLedgerStore()
        front = desk(store, policy=UNHURRIED)
        for _ in range(2):
            await events_of(run(front, text_chunks("a"), who=visit(rules)))
        failure = await refused(run(front, text_chunks("a"), who=visit(rules)))
        assert failure.kind is ErrorKind.REQUESTS_LIMITED
        assert 0 < (failure.retry_after or 0) <= 61
        assert ("x-ratelimit-remaining-requests", "0") in failure.remarks
        assert len(store.entries) == 4, "a refused request is on the ledger"


@pytest.mark.parametrize("bound", ["account", "workspace"])
async def test_so_many_at_once_are_so_many_over_all_keys_of_an_account_or_a_workspace(
    bound: str,
) -> None:
    one = Rules(concurrency=1)
    first = principal(
        Account("shop", rules=one if bound == "account" else UNBOUND),
        workspace=one if bound == "workspace" else UNBOUND,
        key=Rules(concurrency=5),
    )
    second = msgspec.structs.replace(first, key_id="key-2", rules=UNBOUND)
    front = desk(policy=UNHURRIED)
    begun = run(front, text_chunks("Hel", "lo")[:1], Stall(), who=visit(first))
    async with aclosing(begun.events()) as batches:
        await anext(batches)
        for who in (second, first):
            failure = await refused(run(front, text_chunks("a"), who=visit(who)))
            assert failure.kind is ErrorKind.CONCURRENCY_LIMITED
            owner = "account:shop" if bound == "account" else "workspace:default"
            assert failure.detail == f"{owner}: 1 of 1 requests at once"
    await events_of(run(front, text_chunks("a"), who=visit(second)))


async def test_a_key_with_fewer_at_once_than_its_account_leaves_room_for_others() -> None:
    account = Account("shop", rules=Rules(concurrency=2))
    tight = principal(account, key=Rules(concurrency=1))
    other = msgspec.structs.replace(tight, key_id="key-2", rules=UNBOUND)
    front = desk(policy=UNHURRIED)
    begun = run(front, text_chunks("Hel", "lo")[:1], Stall(), who=visit(tight))
    async with aclosing(begun.events()) as batches:
        await anext(batches)
        failure = await refused(run(front, text_chunks("a"), who=visit(tight)))
        assert failure.detail == "key:key-1: 1 of 1 requests at once"
        await events_of(run(front, text_chunks("a"), who=visit(other)))


async def test_tokens_are_reserved_before_and_corrected_after() -> None:
    who = principal(Account("default", rules=Rules(limits={"*": Limit(tokens_per_minute=150)})))
    front = desk(policy=UNHURRIED)
    begun = run(front, text_chunks("Hel", "lo")[:1], Stall(), who=visit(who))
    async with aclosing(begun.events()) as batches:
        await anext(batches)
        # 111 of 150 are reserved by the one that runs.
        failure = await refused(run(front, text_chunks("a"), who=visit(who)))
        assert failure.kind is ErrorKind.TOKENS_LIMITED
    # It was hung up on after one token: 12 are used.
    events = await events_of(run(front, text_chunks("a"), who=visit(who)))
    assert isinstance(events[0], Started)
    assert ("x-ratelimit-remaining-tokens", str(150 - 12 - 111)) in events[0].remarks


async def test_an_answer_that_may_be_longer_than_the_minute_has_tokens_passes_alone() -> None:
    who = principal(key=Rules(limits={"*": Limit(tokens_per_minute=50)}))
    front = desk(policy=UNHURRIED)
    begun = run(front, text_chunks("Hel", "lo")[:1], Stall(), who=visit(who))
    async with aclosing(begun.events()) as batches:
        await anext(batches)
        failure = await refused(run(front, text_chunks("a"), who=visit(who)))
        assert failure.kind is ErrorKind.TOKENS_LIMITED
        assert failure.retry_after is not None
    long = chat("word " * 100, max_tokens=1)
    failure = await refused(run(front, text_chunks("a"), who=visit(who), request=long))
    assert failure.retry_after is None, "a prompt that never passes is told to come back"


async def test_the_published_limit_holds_where_the_account_has_none_of_its_own() -> None:
    offer = Offer("singapore", requests_per_minute=1)
    model = msgspec.structs.replace(MODEL, offers=(offer,))
    who = msgspec.structs.replace(principal(), region="singapore")
    front = desk(policy=UNHURRIED)
    await events_of(run(front, text_chunks("a"), who=visit(who), model=model))
    failure = await refused(run(front, text_chunks("a"), who=visit(who), model=model))
    assert failure.kind is ErrorKind.REQUESTS_LIMITED


async def test_a_budget_holds_and_the_refusal_costs_nothing() -> None:
    store = MemoryLedgerStore()
    front = desk(store, terms=PRICED, policy=UNHURRIED)
    who = principal(workspace=Rules(budget=Budget(PROMPT + 2 * MAX)))
    await events_of(run(front, text_chunks("a"), who=visit(who)))
    failure = await refused(run(front, text_chunks("a"), who=visit(who)))
    assert failure.kind is ErrorKind.BUDGET_EXHAUSTED
    assert spent(store) == (PROMPT + 2, 0)


async def test_a_suspended_or_empty_account_is_in_arrears() -> None:
    for account in (Account("default", suspended=True), Account("default", prepaid=True)):
        failure = await refused(
            run(desk(terms=PRICED), text_chunks("a"), who=visit(principal(account)))
        )
        assert failure.kind is ErrorKind.ARREARAGE
        assert failure.status == 400


async def test_the_free_quota_pays_first_and_free_only_ends_with_it() -> None:
    store = MemoryLedgerStore()
    account = Account("default", activated_at=2**40, free_only=frozenset({MODEL.name}))
    front = desk(store, terms=PRICED, desk_terms=DeskTerms(60, local_free_tokens=PROMPT + 1))
    who = visit(principal(account))
    await events_of(run(front, text_chunks("a"), who=who))
    assert spent(store) == (0, 0)
    failure = await refused(run(front, text_chunks("a"), who=visit(principal(account))))
    assert failure.kind is ErrorKind.FREE_QUOTA_EXHAUSTED
    assert failure.status == 403


async def test_a_free_quota_that_is_over_pays_nothing() -> None:
    store = MemoryLedgerStore()
    front = desk(store, terms=PRICED, desk_terms=DeskTerms(60, local_free_tokens=10**6))
    who = visit(principal(Account("default", activated_at=1)))
    await events_of(run(front, text_chunks("a"), who=who))
    assert spent(store) == (PROMPT + 2, 0)


def cached_chunks(cached: int) -> list[Chunk]:
    return [
        Chunk(0, "a", (1,), 1, cached_tokens=cached),
        Chunk(0, "", (), 1, finish=EngineFinish.END_TOKEN),
    ]


async def test_what_the_engine_reused_counts_as_far_as_this_account_has_sent_it() -> None:
    store = MemoryLedgerStore()
    front = desk(store, terms=PRICED)
    request = chat("word " * 600, max_tokens=1)
    other = principal(Account("other"))
    usages: list[Usage] = []
    for who in (principal(), principal(), other):
        script = cached_chunks(600)
        completion = collect(await events_of(run(front, script, who=visit(who), request=request)))
        usages.append(completion.usage)
    prompt = usages[0].prompt_tokens
    assert [usage.cached_tokens for usage in usages] == [0, min(600, prompt - prompt % 32), 0]
    assert usages[1].cached_tokens >= 256
    charged = [entry.amount for entry in store.entries if entry.kind == "settle"]
    assert charged[1] < charged[0] == charged[2]


async def test_a_marked_block_is_made_once_and_hit_then() -> None:
    store = MemoryLedgerStore()
    front = desk(store, terms=PRICED)
    text = "word " * 1500
    marked = Message("system", text, blocks=(Block(len(text), marked=True),))
    prompt = ChatPrompt((marked, Message("user", "hi")))
    request = GenerationRequest(MODEL.name, prompt, MODEL.defaults, max_tokens=1)
    usages = [
        collect(await events_of(run(front, cached_chunks(0), request=request))).usage
        for _ in range(2)
    ]
    made = usages[0].cache_creation_tokens
    assert made >= 1024
    assert (usages[0].cached_tokens, usages[0].explicit_cache) == (0, True)
    assert (usages[1].cached_tokens, usages[1].cache_creation_tokens) == (made, 0)


async def test_the_answer_says_where_the_prompts_part_when_asked_to() -> None:
    front = desk()
    for text in ("word " * 600, "word " * 500 + "else " * 100):
        who = visit(explains_cache=True)
        request = chat(text, max_tokens=1)
        events = await events_of(run(front, cached_chunks(0), who=who, request=request))
    started = events[0]
    assert isinstance(started, Started)
    remarks = dict(started.remarks)
    assert remarks["x-ownstudio-receipt"] == who.receipt
    assert "messages[0] (user)" in remarks["x-ownstudio-cache"]


def value(metrics: Metrics, name: str) -> float:
    """One line of the page."""
    lines = [line for line in metrics.page().decode().splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].rpartition(" ")[2])


async def test_what_is_refused_charged_cached_and_waited_for_is_counted() -> None:
    metrics, store = Metrics(), MemoryLedgerStore()
    front = desk(store, terms=PRICED, policy=UNHURRIED, metrics=metrics)
    who = principal(Account("default", rules=Rules(limits={"*": Limit(requests_per_minute=2)})))
    text = "word " * 1500
    marked = Message("system", text, blocks=(Block(len(text), marked=True),))
    request = GenerationRequest(
        MODEL.name, ChatPrompt((marked, Message("user", "hi"))), MODEL.defaults, max_tokens=1
    )
    usages = [
        collect(
            await events_of(run(front, cached_chunks(0), who=visit(who), request=request))
        ).usage
        for _ in range(2)
    ]
    error = await refused(run(front, cached_chunks(0), who=visit(who), request=request))
    assert error.kind is ErrorKind.REQUESTS_LIMITED
    front.observe()
    charged = sum(entry.amount for entry in store.entries if entry.kind == "settle")
    name = MODEL.name
    for line, expected in {
        'ownstudio_refusals_total{reason="requests_limited"}': 1,
        f'ownstudio_charged_total{{model="{name}"}}': charged / 10**9,
        f'ownstudio_context_cache_tokens_total{{kind="created",model="{name}"}}': usages[
            0
        ].cache_creation_tokens,
        f'ownstudio_context_cache_tokens_total{{kind="hit",model="{name}"}}': usages[
            1
        ].cached_tokens,
        'ownstudio_ledger_seconds_count{operation="hold"}': 2,
        'ownstudio_ledger_seconds_count{operation="settle"}': 2,
        "ownstudio_limit_wait_seconds_count": 0,
        "ownstudio_limit_waiting": 0,
        "ownstudio_ledger_unwritten": 0,
    }.items():
        assert value(metrics, line) == pytest.approx(expected), line


async def test_who_waits_for_a_limit_is_counted() -> None:
    metrics = Metrics()
    front = desk(policy=Policy(wait_s=5), metrics=metrics)
    who = principal(key=Rules(concurrency=1))
    stall = Stall()
    first = asyncio.ensure_future(events_of(run(front, stall, text_chunks("a"), who=visit(who))))
    await stall.reached.wait()
    second = asyncio.ensure_future(events_of(run(front, text_chunks("a"), who=visit(who))))
    while not value(metrics, "ownstudio_limit_waiting"):
        await asyncio.sleep(0.01)
        front.observe()
    stall.go.set()
    await asyncio.gather(first, second)
    front.observe()
    assert value(metrics, "ownstudio_limit_waiting") == 0
    assert value(metrics, "ownstudio_limit_wait_seconds_count") == 1
