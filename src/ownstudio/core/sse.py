"""Server-sent events, read: bytes in any split, the `data` of whole events out.

Only CR, LF and CRLF end a line (WHATWG HTML, section 9.2.5), so text such as U+2028 inside JSON stays whole.
Bytes are kept as bytes: JSON is decoded from them directly.
"""


class SSEDecoder:
    """Feed bytes as they come; get the data of each event that they complete.

    `feed` raises ValueError once an unfinished event is longer than `event_bytes_max`.
    """

    def __init__(self, event_bytes_max: int = 16 * 1024 * 1024) -> None:
        self._rest = b""
        self._event_bytes_max = event_bytes_max

    def feed(self, data: bytes) -> list[bytes]:
        buffer = self._rest + data
        if b"\r" in buffer:
            # A CR at the very end may be half of a CRLF: it waits for the next bytes.
            held = b"\r" if buffer.endswith(b"\r") else b""
            buffer = buffer[: len(buffer) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        *blocks, rest = buffer.split(b"\n\n")
        self._rest = rest + held
        if len(self._rest) > self._event_bytes_max:
            raise ValueError(f"an event is longer than {self._event_bytes_max} bytes")
        return [event for block in blocks if (event := _data(block)) is not None]

    def finish(self) -> list[bytes]:
        """What the last event holds when the stream ends without its empty line."""
        rest, self._rest = self._rest.replace(b"\r", b"\n"), b""
        event = _data(rest)
        return [] if event is None else [event]


def _data(block: bytes) -> bytes | None:
    """The data of one event; None for one that has none, such as a comment."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = [
        line[6:] if line.startswith(b"data: ") else line[5:]
        for line in block.split(b"\n")
        if line.startswith(b"data:")
    ]
    return b"\n".join(lines) if lines else None
