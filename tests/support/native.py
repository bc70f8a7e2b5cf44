"""Bodies and answers of the native dialect, for its tests."""

import json
from collections.abc import Sequence
from typing import Any

from ownstudio.core.events import Event
from ownstudio.dialects import Call, Identity
from ownstudio.dialects.dashscope import DashScope

Json = dict[str, Any]

HI = [{"role": "user", "content": "hi"}]


def body(parameters: Json | None = None, model: str = "qwen-plus", **given: Any) -> bytes:
    """A whole body; without `given` its input is one user message."""
    fields: Json = {"model": model, "input": given or {"messages": HI}}
    if parameters is not None:
        fields["parameters"] = parameters
    return json.dumps(fields).encode()


def frames(data: bytes) -> list[tuple[int, str, int, Json]]:
    """Number, event, status and data of each frame, which must be written to the byte as the service does."""
    found = []
    assert data == b"" or data.endswith(b"\n\n")
    for block in data.decode().split("\n\n")[:-1]:
        number, event, status, line = block.split("\n")
        assert number.startswith("id:")
        assert event in ("event:result", "event:error")
        assert status.startswith(":HTTP_STATUS/")
        assert line.startswith("data:{")
        found.append(
            (
                int(number.removeprefix("id:")),
                event.removeprefix("event:"),
                int(status.removeprefix(":HTTP_STATUS/")),
                json.loads(line.removeprefix("data:")),
            )
        )
    return found


def streamed(
    dialect: DashScope, call: Call, identity: Identity, *batches: Sequence[Event]
) -> list[Json]:
    """The data of each frame of a whole stream."""
    encoder = dialect.encoder(call, identity)
    data = b"".join([encoder.feed(batch) for batch in batches]) + encoder.finish()
    told = frames(data)
    assert [number for number, *_ in told] == list(range(1, len(told) + 1))
    assert all(event == "result" and status == 200 for _, event, status, _ in told)
    return [answer for *_, answer in told]
