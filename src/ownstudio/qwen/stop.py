"""Where a client's own stop texts or stop token sequences end an answer.

A matcher follows one choice. It gives text on as soon as that text can no longer be the beginning of a
stop, and never gives on a stop itself. The answer ends where the first stop is complete; of those that are
complete at the same place the longest counts. So the joined text is the same however the answer is cut into
chunks. Tokens are the exception in size only: a chunk is dropped whole when a stop sequence begins in it.

The work for each character or token is constant on average, however long the answer is.
"""

import re
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from copy import copy
from typing import Generic, TypeVar

from ownstudio.core.events import TokenId
from ownstudio.core.request import Stop

_Symbol = TypeVar("_Symbol", bound=Hashable)


class _Automaton(Generic[_Symbol]):
    """Aho-Corasick: after each symbol, how much of any stop the symbols so far end with.

    A state is a number. `depth` is the length of the stop prefix that it stands for, `match` the length of
    the longest whole stop that ends there (0: none).
    """

    def __init__(self, stops: Iterable[Sequence[_Symbol]]) -> None:
        self.depth = [0]
        self.match = [0]
        self._next: list[dict[_Symbol, int]] = [{}]
        self._fallback = [0]
        for stop in stops:
            self._add(stop)
        self._link()

    def _add(self, stop: Sequence[_Symbol]) -> None:
        state = 0
        for symbol in stop:
            following = self._next[state].get(symbol)
            if following is None:
                following = len(self.depth)
                self._next[state][symbol] = following
                self._next.append({})
                self._fallback.append(0)
                self.match.append(0)
                self.depth.append(self.depth[state] + 1)
            state = following
        self.match[state] = self.depth[state]

    def _link(self) -> None:
        """Give each state the longest shorter prefix to go on with when a symbol does not fit, nearest first."""
        states = deque(self._next[0].values())
        while states:
            state = states.popleft()
            for symbol, following in self._next[state].items():
                fallback = self.step(self._fallback[state], symbol)
                self._fallback[following] = fallback
                self.match[following] = self.match[following] or self.match[fallback]
                states.append(following)

    def step(self, state: int, symbol: _Symbol) -> int:
        while (following := self._next[state].get(symbol)) is None:
            if state == 0:
                return 0
            state = self._fallback[state]
        return following


class StopMatcher:
    """Feed each chunk of one choice; give on what comes back. `stopped` says that a stop was met."""

    def __init__(self, stop: Stop) -> None:
        texts = [text for text in stop.texts if text]
        sequences = [sequence for sequence in stop.token_ids if sequence]
        self._texts = _Automaton(texts) if texts else None
        self._first = re.compile("|".join({re.escape(text[0]) for text in texts}))
        self._tokens = _Automaton(sequences) if sequences else None
        self.begin()

    def again(self) -> "StopMatcher":
        """A matcher of the same stops for another choice: finding out what to look for is done once."""
        other = copy(self)
        other.begin()
        return other

    def begin(self) -> None:
        """Forget all that came: what follows is another text, and no stop reaches from one into the other."""
        self.stopped = False
        self._state = 0
        self._held = ""
        # Chunks whose tokens may begin a stop sequence, and how many tokens they hold together.
        self._chunks: deque[tuple[str, int]] = deque()
        self._chunk_tokens = 0

    def feed(self, text: str, token_ids: Sequence[TokenId] = ()) -> str:
        """Take the next chunk; return the text that is free to go. Nothing follows once `stopped` is set."""
        if self._texts is not None:
            return self._feed_text(self._texts, text)
        if self._tokens is not None:
            return self._feed_tokens(self._tokens, text, token_ids)
        return text

    @property
    def held(self) -> str:
        """The end of the text so far, which may yet begin a stop."""
        return "".join([text for text, _ in self._chunks]) if self._chunks else self._held

    def finish(self) -> str:
        """The answer is over: return what was held back, which nothing can complete any more."""
        held = self.held
        self._held = ""
        self._chunks.clear()
        return "" if self.stopped else held

    def _feed_text(self, stops: _Automaton[str], text: str) -> str:
        if self.stopped:
            return ""
        if self._state == 0 and not self._first.search(text):
            return text  # what most chunks are: nothing held and nothing that begins a stop
        state, step, match = self._state, stops.step, stops.match
        whole = self._held + text
        for place, character in enumerate(text, len(self._held) + 1):
            state = step(state, character)
            if match[state]:
                self.stopped = True
                self._held = ""
                return whole[: place - match[state]]
        self._state = state
        free = len(whole) - stops.depth[state]
        self._held = whole[free:]
        return whole[:free]

    def _feed_tokens(
        self, stops: _Automaton[TokenId], text: str, token_ids: Sequence[TokenId]
    ) -> str:
        if self.stopped:
            return ""
        state = self._state
        seen = self._chunk_tokens
        self._chunks.append((text, len(token_ids)))
        self._chunk_tokens += len(token_ids)
        for token_id in token_ids:
            state = stops.step(state, token_id)
            seen += 1
            if stops.match[state]:
                self.stopped = True
                return self._release(seen - stops.match[state])
        self._state = state
        return self._release(self._chunk_tokens - stops.depth[state])

    def _release(self, tokens: int) -> str:
        """The text of all chunks that lie within the first `tokens` tokens held back."""
        free: list[str] = []
        while self._chunks and self._chunks[0][1] <= tokens:
            text, count = self._chunks.popleft()
            tokens -= count
            self._chunk_tokens -= count
            free.append(text)
        return "".join(free)
