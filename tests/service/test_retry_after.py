"""What a client is told about coming back when the engine cannot be had."""

from contextlib import aclosing

import pytest

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.engines.base import EngineFacts, EngineUnavailable
from ownstudio.service.generation import RETRY_AFTER_S, Generation
from support.desk import desk, visit
from support.scripted import ScriptedEngine
from support.studio import MODEL, Settled, chat, deployment


class Unavailable(ScriptedEngine):
    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__([])
        self._retry_after_s = retry_after_s

    async def ready(self) -> EngineFacts:
        raise EngineUnavailable("it crashes", self._retry_after_s)


@pytest.mark.parametrize(
    ("back_off_s", "told_s"), [(12.2, 13), (0.0, 0), (None, RETRY_AFTER_S)], ids=str
)
async def test_what_is_left_of_the_back_off_is_when_to_come_back(
    back_off_s: float | None, told_s: float
) -> None:
    generation = Generation(
        deployment(Unavailable(back_off_s)), MODEL, chat(), visit(), desk(), 10, Settled()
    )
    with pytest.raises(StudioError) as refusal:
        async with aclosing(generation.events()) as batches:
            await anext(batches)
    assert refusal.value.kind is ErrorKind.ENGINE_UNAVAILABLE
    assert refusal.value.retry_after == told_s
