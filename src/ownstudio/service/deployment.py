"""A deployment: weights on an engine, with what turns requests into its prompts and its slots' queue."""

from dataclasses import dataclass

from ownstudio.engines.base import Engine
from ownstudio.qwen.family import Family
from ownstudio.qwen.render import PromptRenderer
from ownstudio.qwen.tokenizer import Tokenizer
from ownstudio.service.slots import SlotQueue


@dataclass(frozen=True)
class Deployment:
    """`context` is how many tokens one request may hold, prompt and answer together."""

    name: str
    engine: Engine
    renderer: PromptRenderer
    tokenizer: Tokenizer
    family: Family
    context: int
    slots: SlotQueue
