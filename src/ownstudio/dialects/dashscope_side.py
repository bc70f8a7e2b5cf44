"""The native side endpoints: the list of models, and counting tokens without generating."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct

from ownstudio.catalog import Model
from ownstudio.core.events import TokenId
from ownstudio.core.request import ChatPrompt
from ownstudio.dialects.dashscope_request import read_conversation, read_input, read_model_name
from ownstudio.dialects.fields import malformed, read_object, text

PAGE_SIZE = 10
PAGE_SIZE_MAX = 100
PAGE_NO_MAX = 1_000_000


def models_page(models: Sequence[Model], query: Mapping[str, str], request_id: str) -> bytes:
    """One page of the catalogue. `model` in the query leaves only the one of that name."""
    name = query.get("model")
    if name:
        models = [model for model in models if model.name == name]
    page_no = _count(query, "page_no", 1, PAGE_NO_MAX)
    page_size = _count(query, "page_size", PAGE_SIZE, PAGE_SIZE_MAX)
    first = (page_no - 1) * page_size
    return _answer(
        {
            "total": len(models),
            "page_no": page_no,
            "page_size": page_size,
            "models": [_entry(model) for model in models[first : first + page_size]],
        },
        request_id,
    )


def model_page(model: Model, request_id: str) -> bytes:
    return _answer(_entry(model), request_id)


def _entry(model: Model) -> dict[str, object]:
    return {"model": model.name, "source": model.owned_by, "provider": model.owned_by}


def _answer(output: dict[str, object], request_id: str) -> bytes:
    return msgspec.json.encode({"output": output, "request_id": request_id})


def _count(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    value = query.get(name)
    if not value:
        return default
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and 1 <= int(value) <= most):
        raise malformed(name, f"Range of {name} should be [1, {most}]")
    return int(value)


class CountRequest(Struct, frozen=True):
    """What to count: a conversation as a model is shown it, or raw text."""

    model: Model
    prompt: ChatPrompt | str


def read_count_request(body: bytes, resolve: Callable[[str], Model]) -> CountRequest:
    fields = read_object(body)
    name = read_model_name(fields)
    given = read_input(fields)
    model = resolve(name)
    prompt = text(given, "prompt")
    if given.get("messages") is None and given.get("history") is None and prompt:
        return CountRequest(model, prompt)
    return CountRequest(model, ChatPrompt(read_conversation(given, [])))


def count_answer(
    token_ids: Sequence[TokenId], tokens: Sequence[str], prompt: str | None, request_id: str
) -> bytes:
    """`prompt` is what a conversation was rendered to."""
    output: dict[str, object] = {"token_ids": token_ids, "tokens": tokens}
    if prompt is not None:
        output["prompt"] = prompt
    return msgspec.json.encode(
        {
            "output": output,
            "usage": {"input_tokens": len(token_ids)},
            "request_id": request_id,
        }
    )
