"""Parts of a studio for tests: a real tokenizer and template around an engine of the test's choice."""

from functools import cache
from importlib.resources import as_file, files

from ownstudio.catalog import Model
from ownstudio.core.request import ChatPrompt, GenerationRequest, Message, Sampling
from ownstudio.engines.base import Engine
from ownstudio.engines.gguf import GgufFile, read_gguf
from ownstudio.qwen.family import family_of
from ownstudio.qwen.render import PromptRenderer
from ownstudio.qwen.template import ChatTemplate
from ownstudio.qwen.tokenizer import Tokenizer
from ownstudio.service.deployment import Deployment
from ownstudio.service.ending import Outcome
from ownstudio.service.slots import SlotQueue

MODEL = Model(
    name="qwen-plus",
    deployment="test",
    input_max=100_000,
    output_max=4095,
    thinking_input_max=4095,
    thinking_output_max=4095,
    n_max=4,
    completions=True,
    defaults=Sampling(),
    created=1,
)


class Settled:
    """Remembers what was settled; `only` fails unless it was settled once."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def __call__(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    @property
    def only(self) -> Outcome:
        (outcome,) = self.outcomes
        return outcome


def chat(text: str = "你是谁？", **asked: object) -> GenerationRequest:
    """A chat request; the default text is 11 prompt tokens."""
    prompt = ChatPrompt((Message("user", text),))
    return GenerationRequest(MODEL.name, prompt, MODEL.defaults, **asked)  # type: ignore[arg-type]


@cache
def bundled() -> GgufFile:
    with as_file(files("ownstudio") / "bundled" / "ownstudio-tiny.gguf") as path:
        return read_gguf(path)


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_vocabulary(bundled().vocabulary)


@cache
def renderer() -> PromptRenderer:
    template = bundled().chat_template
    assert template is not None
    return PromptRenderer(ChatTemplate(template), tokenizer())


def deployment(engine: Engine, *, slots: int = 4, queue_max: int = 8) -> Deployment:
    return Deployment(
        name="test",
        engine=engine,
        renderer=renderer(),
        tokenizer=tokenizer(),
        family=family_of(bundled().chat_template or "", tokenizer().special_ids),
        context=4096,
        slots=SlotQueue(slots, queue_max, wait_s=5),
    )
