"""What the text of an answer turns out to be, piece by piece: the events of one choice, without their counts."""

from msgspec import Struct


class Text(Struct, frozen=True, gc=False):
    """More of the answer itself."""

    text: str


class Reasoning(Struct, frozen=True, gc=False):
    """More of what is thought before the answer."""

    text: str


class CallStart(Struct, frozen=True, gc=False):
    """A call of the function `name` begins; `call` counts from 0."""

    call: int
    name: str


class CallArguments(Struct, frozen=True, gc=False):
    """More of the arguments of a call. All of them together are one JSON object."""

    call: int
    arguments: str


Piece = Text | Reasoning | CallStart | CallArguments


def joined(pieces: list[Piece]) -> list[Piece]:
    """The same, neighbours of one kind made one piece: what does not depend on how the text was cut."""
    whole: list[Piece] = []
    for piece in pieces:
        last = whole[-1] if whole else None
        match last, piece:
            case (Text(before), Text(after)):
                whole[-1] = Text(before + after)
            case (Reasoning(before), Reasoning(after)):
                whole[-1] = Reasoning(before + after)
            case (CallArguments(call, before), CallArguments(same, after)) if call == same:
                whole[-1] = CallArguments(call, before + after)
            case _:
                whole.append(piece)
    return whole
