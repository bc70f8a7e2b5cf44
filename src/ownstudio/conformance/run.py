"""Holds a server to the cases, one after the other, so that a small server is not overrun."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import aiohttp
import msgspec
from msgspec import Struct

from ownstudio.conformance.case import CODER, MODEL, Answer, Case, Json
from ownstudio.conformance.cases_native import CASES as NATIVE
from ownstudio.conformance.cases_openai import CASES as OPENAI
from ownstudio.conformance.exchange import TooMuch, Unreachable, exchange, frames

__all__ = ["Outcome", "Target", "Unreachable", "cases_for", "run_cases"]

DIFFERENCES_MAX = 10
SHOWN_BYTES_MAX = 300


class Target(Struct, frozen=True):
    """A server by the root of its address, such as http://127.0.0.1:8000, and the names to ask it for."""

    url: str
    key: str
    model: str
    coder: str


class Outcome(Struct, frozen=True):
    """How one case went. No differences: it passed."""

    name: str
    dialect: str
    source: str
    differences: tuple[str, ...]
    milliseconds: int

    @property
    def passed(self) -> bool:
        return not self.differences


def cases_for(dialect: Literal["openai", "dashscope"] | None) -> tuple[Case, ...]:
    """The cases of one dialect, or all."""
    return tuple(case for case in (*OPENAI, *NATIVE) if dialect in (None, case.dialect))


async def run_cases(target: Target, cases: tuple[Case, ...]) -> AsyncIterator[Outcome]:
    """Raises Unreachable when nothing answers."""
    async with aiohttp.ClientSession(target.url, trust_env=True) as http:
        for case in cases:
            started = time.perf_counter()
            try:
                answer = await exchange(http, case, _body(case, target), target.key)
                found = list(_differences(case, answer))
            except TooMuch as error:
                found = [str(error)]
            yield Outcome(
                name=case.name,
                dialect=case.dialect,
                source=case.source,
                differences=tuple(found[:DIFFERENCES_MAX]),
                milliseconds=round((time.perf_counter() - started) * 1000),
            )


def _body(case: Case, target: Target) -> bytes | None:
    if case.body is None or isinstance(case.body, bytes):
        return case.body or None
    names = {MODEL: target.model, CODER: target.coder}
    model = case.body.get("model")
    body: Json = dict(case.body)
    if isinstance(model, str):
        body["model"] = names.get(model, model)
    return msgspec.json.encode(body)


def _differences(case: Case, answer: Answer) -> Iterator[str]:
    if answer.status not in case.statuses:
        expected = " or ".join(str(status) for status in case.statuses)
        shown = answer.body[:SHOWN_BYTES_MAX].decode("utf-8", "replace")
        yield f"status: expected {expected}, got {answer.status}: {shown}"
        return
    told = frames(answer.body) if case.streams else []
    if case.shape is not None and case.streams:
        for number, frame in enumerate(told, 1):
            for difference in case.shape.differences(frame.data, ""):
                yield f"event {number}: {difference}"
    elif case.shape is not None:
        try:
            yield from case.shape.differences(msgspec.json.decode(answer.body), "")
        except msgspec.DecodeError:
            yield f"the body: expected JSON, got {answer.body[:SHOWN_BYTES_MAX]!r}"
    for rule in case.rules:
        yield from rule(answer, told)
