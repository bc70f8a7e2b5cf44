"""Thinking is held, bounded and charged as thinking, whoever opens it: the template or the model itself."""

from contextlib import aclosing
from dataclasses import replace

import msgspec
import pytest

from ownstudio.billing.prices import Terms
from ownstudio.catalog import PriceTier
from ownstudio.core.events import Usage, collect
from ownstudio.core.request import ChatPrompt, GenerationRequest, Message
from ownstudio.engines.base import Chunk, EngineFinish
from ownstudio.qwen.family import family_of
from ownstudio.qwen.render import PromptRenderer
from ownstudio.qwen.template import ChatTemplate
from ownstudio.service.generation import Generation
from support.desk import MemoryLedgerStore, desk, visit
from support.scripted import ScriptedEngine, Step
from support.studio import MODEL, Settled, deployment, tokenizer

# One nano-unit for a token of input, two for one of output, eight for one written while the model thinks.
PRICED = Terms((PriceTier(None, 10**6, 2 * 10**6, 8 * 10**6),), 20, 10, 125)
# As Qwen3's does: where thinking is on, the template adds nothing, and the model opens it.
HYBRID = """{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""
THINKER = msgspec.structs.replace(
    MODEL, thinking_budget_max=1000, thinking_output_max=20, output_max=400
)
ANSWER = "<think>\nLet me see, one two three\n</think>\n\nFour."


def written(text: str, finish: EngineFinish = EngineFinish.END_TOKEN) -> list[Step]:
    ids = tokenizer().encode(text, specials=True)
    chunks = [
        Chunk(0, tokenizer().decode([token]), (token,), place)
        for place, token in enumerate(ids, start=1)
    ]
    return [[chunk] for chunk in (*chunks, Chunk(0, "", (), len(ids), finish=finish))]


async def run(
    scripts: list[list[Step]], *, thinks: bool = True, **asked: int
) -> tuple[MemoryLedgerStore, ScriptedEngine, Usage]:
    store, engine = MemoryLedgerStore(), ScriptedEngine(*scripts)
    home = replace(
        deployment(engine),
        family=family_of(HYBRID, tokenizer().special_ids),
        renderer=PromptRenderer(ChatTemplate(HYBRID), tokenizer()),
    )
    prompt = ChatPrompt((Message("user", "think"),), enable_thinking=thinks)
    request = GenerationRequest(THINKER.name, prompt, THINKER.defaults, **asked)
    generation = Generation(
        home, THINKER, request, visit(), desk(store, terms=PRICED), 10, Settled()
    )
    async with aclosing(generation.events()) as batches:
        usage = collect([event async for batch in batches for event in batch]).usage
    return store, engine, usage


@pytest.mark.parametrize(("thinks", "price"), [(True, 8), (False, 2)])
async def test_the_price_is_that_of_thinking_where_the_model_was_asked_to_think(
    thinks: bool, price: int
) -> None:
    script = written(ANSWER if thinks else "Four.")
    store, _, usage = await run([script], thinks=thinks)
    hold, settled = store.entries
    assert (hold.thinking, settled.thinking) == (thinks, thinks)
    assert settled.amount == usage.prompt_tokens + price * usage.completion_tokens
    assert bool(usage.reasoning_tokens) == thinks


async def test_max_tokens_bounds_what_follows_the_thinking() -> None:
    _, engine, _ = await run([written(ANSWER)], max_tokens=10)
    assert engine.requests[0].max_tokens == THINKER.thinking_budget_max + 10


async def test_an_answer_behind_a_spent_thinking_budget_stays_within_its_hold() -> None:
    thoughts = written("<think>\nLet me see, one two three four five six seven")
    limit = written("1 2 3 4 5 6 7 8 9 10", EngineFinish.LIMIT)
    store, engine, usage = await run([thoughts, limit], thinking_budget=5)
    assert engine.requests[1].max_tokens == THINKER.thinking_output_max
    hold, settled = store.entries
    assert usage.reasoning_tokens > 0
    assert settled.amount <= hold.amount
