"""The log of a child process: its last bytes, kept for whoever asks why it died, and its lines, passed to `logging`."""

import logging

_LINE_BYTES_MAX = 4096


class LogTail:
    """Keeps the last `bytes_max` bytes that were fed, cut at the start of a line.

    Every line also goes to `logger` at level DEBUG, in pieces where it is longer than 4 KiB.
    """

    def __init__(self, logger: logging.Logger, bytes_max: int = 8192) -> None:
        self._logger = logger
        self._bytes_max = bytes_max
        self._kept = bytearray()
        self._cut = False
        self._line = b""

    def feed(self, data: bytes) -> None:
        self._keep(data)
        # A child that floods its log must cost the gateway little: no line is built that nobody reads.
        if self._logger.isEnabledFor(logging.DEBUG):
            *lines, self._line = (self._line + data).split(b"\n")
            for line in lines:
                self._emit(line)
            while len(self._line) > _LINE_BYTES_MAX:
                self._emit(self._line[:_LINE_BYTES_MAX])
                self._line = self._line[_LINE_BYTES_MAX:]

    def text(self) -> str:
        """The tail: whole lines where it holds any, else the end of the only one."""
        kept = bytes(self._kept)
        if self._cut:
            kept = kept.partition(b"\n")[2] or kept
        return kept.decode(errors="replace")

    def clear(self) -> None:
        """Start anew, for a new process."""
        self._kept.clear()
        self._cut = False
        self._line = b""

    def _keep(self, data: bytes) -> None:
        self._kept += data[-self._bytes_max :]
        excess = len(self._kept) - self._bytes_max
        if excess > 0 or len(data) > self._bytes_max:
            self._cut = True
        if excess > 0:
            del self._kept[:excess]

    def _emit(self, line: bytes) -> None:
        for start in range(0, max(len(line), 1), _LINE_BYTES_MAX):
            piece = line[start : start + _LINE_BYTES_MAX]
            self._logger.debug("%s", piece.decode(errors="replace"))
