"""The page of parameters, made from the tables of both dialects: `docs/parameters.md`."""

from collections.abc import Iterable, Sequence

import msgspec

from ownstudio.dialects.dashscope_parameters import BODY, INPUT, PARAMETERS
from ownstudio.dialects.openai_parameters import CHAT, TEXT
from ownstudio.dialects.parameters import Parameters

_INTRODUCTION = """\
# Parameters

What becomes of each field of a request. This page is generated from
`src/ownstudio/dialects/openai_parameters.py` and `src/ownstudio/dialects/dashscope_parameters.py`; do not edit it.

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

_NATIVE_NOTES = """\
Where this differs from the real service, or the real service surprises:

- The header names an ignored field with its place: `parameters.temprature`.
- `tools` beside `parameters` instead of in it are not seen, as on the real service.
- Several choices beside tools are not refused: one is made.
- A cumulative stream repeats all log probabilities so far in each snapshot. They outweigh the text by far, so such a
  stream sends a snapshot only when there is an eighth more to tell; `incremental_output` true sends each score at once.
"""


def parameters_page_markdown() -> str:
    """The whole page, ending in a newline."""
    return "\n".join(
        [
            _INTRODUCTION,
            _endpoint("Chat completions", CHAT),
            _CHAT_NOTES,
            _endpoint("Completions", TEXT),
            _endpoint("Native: the body", BODY),
            _endpoint("Native: `input`", INPUT),
            _endpoint("Native: `parameters`", PARAMETERS),
            _NATIVE_NOTES,
        ]
    )


def _endpoint(title: str, parameters: Parameters) -> str:
    refused = {
        name: refusal.reason + _idle(refusal.idle) for name, refusal in parameters.refused.items()
    }
    tables = (
        (("served", "what it may be"), parameters.supported),
        (("ignored", "why that is harmless"), parameters.harmless),
        (("refused", "why"), refused),
    )
    return "\n".join(
        [f"## {title}\n", *(_table(header, rows.items()) for header, rows in tables if rows)]
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
