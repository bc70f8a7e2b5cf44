"""The index in memory and in Redis behind one clock that tests turn, and prompts as they really come."""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from ownstudio.context_cache.index import MemoryIndex, Owner, PrefixIndex
from ownstudio.context_cache.prefix import Prefix
from ownstudio.context_cache.redis_index import RedisIndex
from ownstudio.core.request import ChatPrompt, GenerationRequest, Message, Sampling, Tool
from ownstudio.service.plan import plan
from support.scripted import ScriptedEngine
from support.studio import MODEL, deployment
from support.turned_clock import TurnedClock

IMPLICIT_S, EXPLICIT_S = 3600.0, 300.0
BLOCKS_MAX = 4096


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def owner() -> Owner:
    """An owner that no other test has, for all of them share one Redis."""
    return Owner(secrets.token_hex(4), "qwen-plus")


@pytest.fixture(params=["memory", "redis"])
async def index(request: pytest.FixtureRequest, clock: TurnedClock) -> AsyncIterator[PrefixIndex]:
    bounds = {"implicit_ttl_s": IMPLICIT_S, "explicit_ttl_s": EXPLICIT_S}
    if request.param == "memory":
        yield MemoryIndex(**bounds, blocks_max=BLOCKS_MAX, monotonic=clock)
        return
    url = request.getfixturevalue("redis").url
    shared = RedisIndex(url, **bounds, blocks_max=BLOCKS_MAX, now=clock)
    yield shared
    await shared.close()


@pytest.fixture
def planned() -> Callable[..., Prefix]:
    """What `plan` makes of a conversation."""
    serving = deployment(ScriptedEngine())

    def prefix(
        messages: Sequence[Message], tools: tuple[Tool, ...] = (), *, thinking: bool = False
    ) -> Prefix:
        prompt = ChatPrompt(tuple(messages), tools=tools, enable_thinking=thinking)
        request = GenerationRequest(MODEL.name, prompt, Sampling())
        return plan(request, serving, MODEL).prefix

    return prefix
