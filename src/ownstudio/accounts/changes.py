"""What every change of accounts, workspaces and keys has in common: what it takes, how it is stored, what it raises."""

import logging
import re
from collections.abc import Callable
from typing import Literal

import msgspec

from ownstudio.accounts.rules import (
    EVERY_MODEL,
    NOTHING,
    UNBOUND,
    Rules,
    check_model_name,
    check_rules,
)

NAME_MAX = 128
# On PostgreSQL all who change a table at once get the same number; one wins, so that a writer may lose as often as
# there are others.

# New rules, or how to make them from those in force: the latter reads and writes in one transaction.
RulesChange = Rules | Callable[[Rules], Rules]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

log = logging.getLogger(__name__)


class Missing(ValueError):
    """There is no such account, workspace or key, as `what` says; the text names it."""

    def __init__(self, what: Literal["account", "workspace", "key"], text: str) -> None:
        super().__init__(text)
        self.what = what


class Taken(ValueError):
    """An account or workspace with this id exists already; the text names it."""


def check_id(word: str, value: str) -> None:
    """`word` is what it is an id of. Raises ValueError."""
    if not _ID.fullmatch(value):
        raise ValueError(
            f"the {word} {value!r} is not 1 to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )


def check_name(word: str, value: str) -> None:
    if len(value) > NAME_MAX or not value.isprintable():
        raise ValueError(f"the name of a {word} is at most {NAME_MAX} printable characters")


def changed_rules(stored: str, owner: str, change: RulesChange | None) -> str:
    """The rules to store after a change. Raises ValueError where they cannot be."""
    if change is None:
        return stored
    rules = change if isinstance(change, Rules) else change(read_rules(stored, owner))
    return written_rules(rules)


def written_rules(rules: Rules) -> str:
    """Raises ValueError for rules that cannot be."""
    check_rules(rules)
    return msgspec.json.encode(rules).decode()


def read_rules(stored: str, owner: str) -> Rules:
    """Rules that somebody wrote by hand, and wrongly, allow nothing; `owner` is for the log."""
    if stored == "{}":
        return UNBOUND
    try:
        rules = msgspec.json.decode(stored, type=Rules)
        check_rules(rules)
    except ValueError as error:
        log.error("the rules of %s cannot be read, so it may do nothing: %s", owner, error)
        return NOTHING
    return rules


def written_models(names: frozenset[str]) -> str:
    """Raises ValueError for what is neither the name of a model nor "*"."""
    for name in names:
        check_model_name(name)
    return msgspec.json.encode(sorted(names)).decode()


def read_models(stored: str, owner: str) -> frozenset[str]:
    """Names that somebody wrote by hand, and wrongly, are all names."""
    try:
        return frozenset(msgspec.json.decode(stored, type=list[str]))
    except ValueError as error:
        log.error("the models of %s cannot be read, so they are all: %s", owner, error)
        return frozenset({EVERY_MODEL})
