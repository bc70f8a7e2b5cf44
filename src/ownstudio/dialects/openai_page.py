"""The page of parameters of the OpenAI dialect, made from its tables: `docs/parameters.md`."""

from collections.abc import Iterable, Sequence

import msgspec

from ownstudio.dialects.openai_parameters import CHAT, TEXT, Parameters

_INTRODUCTION = """\
# Parameters

What becomes of each field of a request. This page is generated from
`src/ownstudio/dialects/openai_parameters.py`; do not edit it.

`null` means absent. A value out of its range is refused with a message that names the parameter and the range.
A field that is in no table is ignored, and the header `x-ownstudio-ignored` of the answer names it.
"""

_CHAT_NOTES = """\
Where this differs from the real service, or the real service surprises:

- Whether a model thinks, and whether only in a stream, is a column of the [models](models.md). A model that thinks by
  default and in streams only refuses a call that neither streams nor sets `enable_thinking` to false.
- While a model thinks, a forced `tool_choice`, `response_format` and partial mode are refused.
- `tool_choice` may be `required`, which the real service refuses.
- A tool may be named `search`, which the real service refuses because its own web search has that name.
- `required` beside the `parameters` of a function counts as if it stood inside.
- The `strict` and `cache_control` of a tool are not shown to the model.
"""


def parameters_page_markdown() -> str:
    """The whole page, ending in a newline."""
    return "\n".join(
        [
            _INTRODUCTION,
            _endpoint("Chat completions", CHAT),
            _CHAT_NOTES,
            _endpoint("Completions", TEXT),
        ]
    )


def _endpoint(title: str, parameters: Parameters) -> str:
    refused = {
        name: refusal.reason + _idle(refusal.idle) for name, refusal in parameters.refused.items()
    }
    return "\n".join(
        [
            f"## {title}\n",
            _table(("served", "what it may be"), parameters.supported.items()),
            _table(("ignored", "why that is harmless"), parameters.harmless.items()),
            _table(("refused", "why"), refused.items()),
        ]
    )


def _idle(values: Sequence[object]) -> str:
    """The values that pass all the same."""
    if not values:
        return ""
    shown = " or ".join(f"`{msgspec.json.encode(value).decode()}`" for value in values)
    return f"; {shown} passes, since it asks for nothing"


def _table(header: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = ["| {} | {} |".format(*header), "| --- | --- |"]
    lines += [f"| `{name}` | {text} |" for name, text in sorted(rows)]
    return "\n".join(lines) + "\n"
