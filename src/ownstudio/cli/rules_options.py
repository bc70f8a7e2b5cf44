"""The options of rules, which accounts, workspaces and keys take alike, and rules as people read them."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from msgspec.structs import replace

from ownstudio.accounts.rules import EVERY_MODEL, UNBOUND, Budget, Limit, Rules
from ownstudio.core.money import parse_amount, plain_amount

_PANEL = "What it may do, within what is above it"


@dataclass(frozen=True)
class RulesOptions:
    """What is given replaces what was so; the rest stays."""

    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="The only models that may be called, all if it is never given. Empty is none.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    addresses: Annotated[
        str | None,
        typer.Option(
            metavar="RANGE,…",
            help="The only addresses that may call, all if it is never given: 10.0.0.0/8,2001:db8::/32.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    rpm: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Requests a minute to each model that has no --limit.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    tpm: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Tokens a minute of each model that has no --limit, input and output.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL=RPM/TPM",
            help="Requests and tokens a minute of one model; either may be left out: MODEL=60/. May be repeated.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Requests that may run at once.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT/PERIOD",
            help="The most that may be spent in a `day` or a `month` (UTC), such as 12.50/month.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None

    def apply(self, rules: Rules = UNBOUND, cleared: Collection[str] = ()) -> Rules:
        """`rules` without what is cleared, and then with what is given. Raises ValueError."""
        rules = replace(
            rules,
            **{name: getattr(UNBOUND, name) for name in rules.__struct_fields__ if name in cleared},
        )
        if self.models is not None:
            rules = replace(rules, models=_listed(self.models))
        if self.addresses is not None:
            ranges = _listed(self.addresses)
            if not ranges:
                # What allows nobody cannot be meant, and what allows everybody must not come from an empty variable.
                raise ValueError("--addresses names no range; --clear addresses allows every one")
            rules = replace(rules, addresses=ranges)
        if self.concurrency is not None:
            rules = replace(rules, concurrency=self.concurrency)
        if self.budget is not None:
            rules = replace(rules, budget=read_budget(self.budget))
        return replace(rules, limits=self._limits(rules.limits))

    def _limits(self, limits: dict[str, Limit]) -> dict[str, Limit]:
        limits = limits | dict(read_limit(text) for text in self.limit or ())
        if self.rpm is not None or self.tpm is not None:
            every = limits.get(EVERY_MODEL, Limit())
            if self.rpm is not None:
                every = replace(every, requests_per_minute=self.rpm)
            if self.tpm is not None:
                every = replace(every, tokens_per_minute=self.tpm)
            limits[EVERY_MODEL] = every
        return limits


def clear_option(*more: str) -> Any:
    """The option of a command that may take rules away, and `more`."""
    *others, last = (*UNBOUND.__struct_fields__, *more)
    return typer.Option(
        metavar="WHAT",
        help=f"Take away {', '.join(others)} or {last}. May be repeated.",
        show_default=False,
    )


def read_cleared(given: Collection[str] | None, *more: str) -> frozenset[str]:
    """What a `clear_option` names. Raises ValueError."""
    known = (*UNBOUND.__struct_fields__, *more)
    for name in given or ():
        if name not in known:
            raise ValueError(f"--clear {name} is none of {', '.join(known)}")
    return frozenset(given or ())


def read_limit(text: str) -> tuple[str, Limit]:
    """A model and its limit from MODEL=RPM/TPM. Raises ValueError."""
    found = re.fullmatch(r"(.+)=([0-9]{0,13})/([0-9]{0,13})", text)
    if found is None:
        raise ValueError(f"{text!r} is not MODEL=RPM/TPM, such as qwen3-max=60/100000")
    requests, tokens = (int(number) if number else None for number in found.groups()[1:])
    return found[1], Limit(requests, tokens)


def read_budget(text: str) -> Budget:
    """A budget from AMOUNT/PERIOD. Raises ValueError."""
    amount, _, period = text.partition("/")
    if period not in ("day", "month"):
        raise ValueError(f"{text!r} is not a budget such as 12.50/month or 1/day")
    return Budget(parse_amount(amount), "day" if period == "day" else "month")


def rules_text(rules: Rules) -> str:
    """Rules in one line, as a listing shows them."""
    parts: list[str] = []
    if rules.models is not None:
        parts.append(f"models {','.join(rules.models) or 'none'}")
    if rules.addresses:
        parts.append(f"from {','.join(rules.addresses)}")
    for name, limit in rules.limits.items():
        counts = (limit.requests_per_minute, limit.tokens_per_minute)
        parts.append(f"{name}={'/'.join('' if count is None else str(count) for count in counts)}")
    if rules.concurrency is not None:
        parts.append(f"{rules.concurrency} at once")
    if rules.budget is not None:
        parts.append(f"{plain_amount(rules.budget.amount)}/{rules.budget.period}")
    return "; ".join(parts) or "-"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for part in text.split(",") if (one := part.strip())))
