"""What becomes of the fields of a body: served, harmless to ignore, or refused. Each dialect has tables of its own.

Serving one more parameter means moving its row to the served ones. A field that no table knows changes
nothing either, and the answer says so: it is listed in `Call.ignored`. The page of parameters is made
from the tables, so whatever they say is written for readers of that page.
"""

import re
from collections.abc import Collection

from msgspec import Struct

from ownstudio.dialects.fields import Fields, malformed

IGNORED_NAMES_MAX = 16
IGNORED_CHARACTERS_MAX = 64

_UNSAFE_IN_HEADER = re.compile(r"[^A-Za-z0-9_.\[\]-]")


class Refusal(Struct, frozen=True):
    """Why a parameter is not served, and the values (besides null) that ask for nothing and pass."""

    reason: str
    idle: tuple[object, ...] = ()


class Parameters(Struct, frozen=True):
    """The three tables of one endpoint. `supported` says what each may be, `harmless` why ignoring each is."""

    supported: dict[str, str]
    harmless: dict[str, str]
    refused: dict[str, Refusal]

    def sort_out(self, fields: Fields) -> list[str]:
        """Refuse what would change the answer and is not served; return the names no table knows."""
        return [
            name
            for name, value in fields.items()
            if name not in self.supported and not self._is_idle(name, value)
        ]

    def _is_idle(self, name: str, value: object) -> bool:
        if value is None or name in self.harmless:
            return True
        refusal = self.refused.get(name)
        if refusal is None:
            return False
        if value in refusal.idle:
            return True
        raise malformed(name, f"The parameter '{name}' is not supported: {refusal.reason}.")


def ignored_names(names: Collection[str]) -> tuple[str, ...]:
    """Names that fit a header: bounded in number and length, odd characters replaced by `?`.

    When there are too many, the last entry says how many more there were: `+12`.
    """
    unique = list(dict.fromkeys(names))
    shown = [
        _UNSAFE_IN_HEADER.sub("?", name[:IGNORED_CHARACTERS_MAX])
        for name in unique[:IGNORED_NAMES_MAX]
    ]
    more = len(unique) - len(shown)
    return (*shown, f"+{more}") if more else tuple(shown)
