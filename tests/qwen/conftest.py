"""The bundled model's vocabulary and template, read once, and an independent tokenizer to compare with."""

import base64
import importlib.util
from importlib import resources
from pathlib import Path

import pytest
import tiktoken

from ownstudio.engines.gguf import GgufFile, read_gguf
from ownstudio.qwen.render import PromptRenderer
from ownstudio.qwen.template import ChatTemplate
from ownstudio.qwen.tokenizer import PATTERNS, Tokenizer

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\\n' }}"
)


@pytest.fixture(scope="session")
def weights() -> GgufFile:
    with resources.as_file(resources.files("ownstudio") / "bundled/ownstudio-tiny.gguf") as path:
        return read_gguf(path)


@pytest.fixture(scope="session")
def tokenizer(weights: GgufFile) -> Tokenizer:
    return Tokenizer.from_vocabulary(weights.vocabulary)


@pytest.fixture(scope="session")
def oracle(tokenizer: Tokenizer) -> tiktoken.Encoding:
    """Qwen's published ranks, with the special tokens of Qwen3, merged by other code than ours."""
    package = importlib.util.find_spec("dashscope")
    assert package is not None
    assert package.origin is not None
    lines = (Path(package.origin).parent / "resources/qwen.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    return tiktoken.Encoding(
        "qwen",
        pat_str=PATTERNS["qwen2"],
        mergeable_ranks=ranks,
        special_tokens=tokenizer.special_ids,
    )


@pytest.fixture(scope="session")
def chatml(tokenizer: Tokenizer) -> PromptRenderer:
    """Plain ChatML: what Qwen's templates come to without tools and default texts."""
    return PromptRenderer(ChatTemplate(CHATML), tokenizer)


@pytest.fixture(scope="session")
def bundled(weights: GgufFile, tokenizer: Tokenizer) -> PromptRenderer:
    """The template that the bundled model brings along."""
    assert weights.chat_template is not None
    return PromptRenderer(ChatTemplate(weights.chat_template), tokenizer)
