"""Which part of a conversation a token of its prompt belongs to, as far as the ids alone tell it (pure).

Qwen's templates open a turn for each message with one token, share a turn among the tool messages that follow each
other, put the tools into the first turn, beside the system message if there is one, and open the answer's turn at the
end. Where a template does otherwise, the turns are counted and not named. Asked only once something has to be
explained, so nothing is worked out before.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from ownstudio.core.events import TokenId
from ownstudio.core.request import ChatPrompt

TEMPLATE = "template"
TOOLS = "tools"
SYSTEM = "system"

# What a template may write before the system message in its turn: an opening, the role, the line's end.
_TURN_HEAD_TOKENS = 6


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
        ids = list(self.token_ids[:end])
        own = list(self.encode(self.prompt.messages[0].content.strip()))
        # The outermost of its tokens may have become one with what the template writes around it.
        inner = own[1:-1] or own
        for start in range(len(ids) - len(inner) + 1):
            if ids[start] == inner[0] and ids[start : start + len(inner)] == inner:
                inside = start - 1 <= token <= start + len(inner)
                before = token < start and start <= _TURN_HEAD_TOKENS
                return SYSTEM if inside or before else TOOLS
        return SYSTEM
