"""Which part of a conversation a token of its prompt belongs to, as far as the ids alone tell it (pure).

Qwen's templates open a turn for each message with one token, share a turn among the tool messages that follow each
other, put the tools into the first turn, beside the system message if there is one, and open the answer's turn at the
end. Where a template does otherwise, the turns are counted and not named. Asked only once something has to be
explained, so nothing is worked out before.
"""

import sys
from array import array
from collections.abc import Callable, Sequence

from msgspec import Struct

from ownstudio.core.events import TokenId
from ownstudio.core.request import ChatPrompt

TEMPLATE = "template"
TOOLS = "tools"
SYSTEM = "system"

# What a template may write before the system message in its turn: an opening, the role, the line's end.
_TURN_HEAD_TOKENS = 6

# Of a long system message only the ends are looked for: so many tokens, from so many letters.
_END_TOKENS = 64
_END_LETTERS = 512

_LETTERS = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"


class Layout(Struct, frozen=True):
    """A conversation and the ids that it was rendered to. `encode` is plain text to ids, as the prompt has it."""

    prompt: ChatPrompt
    token_ids: Sequence[TokenId]
    encode: Callable[[str], Sequence[TokenId]]

    def part_at(self, token: int, turns: Sequence[int]) -> str:
        """What the token with this number belongs to, in words; `turns` are the numbers of those that open one."""
        turn = max(sum(start <= token for start in turns) - 1, 0)
        names = self._names(len(turns))
        if names is None:
            return f"turn {turn}"
        if turn == 0 and names[0] == SYSTEM and self.prompt.tools:
            end = turns[1] if len(turns) > 1 else len(self.token_ids)
            return self._of_first_turn(token, end)
        return names[turn]

    def _names(self, turns: int) -> list[str] | None:
        """A name for each turn, or None where there are not as many turns as this prompt should have."""
        names = self._messages()
        if not self.prompt.messages[-1].partial:
            names.append(TEMPLATE)
        if turns == len(names) + 1 and names[0] != SYSTEM:
            names.insert(0, TOOLS if self.prompt.tools else TEMPLATE)
        return names if turns == len(names) else None

    def _messages(self) -> list[str]:
        names: list[str] = []
        first_tool = None
        for place, message in enumerate(self.prompt.messages):
            if message.role == "tool" and first_tool is not None:
                names[-1] = f"messages[{first_tool}..{place}] (tool)"
                continue
            first_tool = place if message.role == "tool" else None
            names.append(
                SYSTEM if message.role == SYSTEM else f"messages[{place}] ({message.role})"
            )
        return names

    def _of_first_turn(self, token: int, end: int) -> str:
        """Some templates write the system message before the tools, some after them."""
        turn = _searchable(self.token_ids[:end])
        first, last, tokens = self._ends(self.prompt.messages[0].content.strip())
        start = turn.find(first)
        if start < 0:
            return SYSTEM
        # The outermost of its tokens may have become one with what the template writes around it.
        inside = start - 1 <= token <= _stop(turn, last, start, start + tokens)
        before = token < start and start <= _TURN_HEAD_TOKENS
        return SYSTEM if inside or before else TOOLS

    def _ends(self, text: str) -> tuple[str, str, int]:
        """The first and the last tokens of a text but for the outermost, and how many there are, roughly if many.

        To make all of a long text into tokens would keep everybody waiting.
        """
        if len(text) <= 2 * _END_LETTERS:
            ids = self.encode(text)
            whole = _searchable(ids[1:-1] or ids)
            return whole, whole, len(whole)
        first, last = self.encode(text[:_END_LETTERS]), self.encode(text[-_END_LETTERS:])
        # Near a cut the tokens are not those of the prompt. In the half that is away from it they are.
        return (
            _searchable(first[1 : len(first) // 2][:_END_TOKENS]),
            _searchable(last[len(last) // 2 : -1][-_END_TOKENS:]),
            len(text) * (len(first) + len(last)) // (2 * _END_LETTERS),
        )


def _stop(turn: str, last: str, start: int, expected: int) -> int:
    """Where the text that begins at `start` ends: a text may say its last words twice, and tools may say them too."""
    before = turn.rfind(last, start, expected)
    after = turn.find(last, max(start, expected - len(last) + 1))
    ends = [place + len(last) for place in (before, after) if place >= 0]
    return min(ends, key=lambda end: abs(end - expected), default=len(turn))


def _searchable(token_ids: Sequence[TokenId]) -> str:
    """A letter for each token: a search in text takes linear time, and finds nothing between two tokens."""
    return array("I", token_ids).tobytes().decode(_LETTERS, "surrogatepass")
