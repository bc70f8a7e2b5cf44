"""The parameters that every dialect has by the same names: sampling, lengths, stop, log probabilities.

Ranges are those of the vendor's pages. Three of them are tightened, each because an engine computes in
32-bit floats: `temperature` below 1e-5 counts as 0 (it is greedy to the last bit anyway, and dividing by
less overflows), and `repetition_penalty` must lie within [0.01, 100]. A `top_k` above 100 or null is off.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ownstudio.catalog import Model
from ownstudio.core.errors import invalid_parameter
from ownstudio.core.events import TokenId
from ownstudio.core.request import Sampling, Stop
from ownstudio.dialects.fields import (
    Fields,
    boolean,
    integer,
    integer_within,
    malformed,
    number,
)

TOP_K_MAX = 100
TOP_LOGPROBS_MAX = 5
TEMPERATURE_GREEDY = 1e-5
STOPS_MAX = 64
STOP_CHARACTERS_MAX = 1024
STOP_TOKENS_MAX = 256
TOKEN_ID_MAX = 2**31 - 1

_SAMPLING = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "seed",
    }
)

_TokenIds = tuple[Annotated[TokenId, Meta(ge=0, le=TOKEN_ID_MAX)], ...]

_STOP_TYPES = (
    'The "stop" parameter must be of type "str", "list[str]", "list[int]", or "list[list[int]]", '
    "and all elements within the list must be of the same type."
)


class _Range(Struct, frozen=True):
    """An interval and what to say of a value outside it; the open end is not part of it."""

    low: float
    high: float
    message: str
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: int | float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)


_TEMPERATURE = _Range(0.0, 2.0, "Temperature should be in [0.0, 2.0)", high_open=True)
_TOP_P = _Range(0.0, 1.0, "Range of top_p should be (0.0, 1.0]", low_open=True)
_PRESENCE = _Range(-2.0, 2.0, "Presence_penalty should be in [-2.0, 2.0]")
_FREQUENCY = _Range(-2.0, 2.0, "Frequency_penalty should be in [-2.0, 2.0]")
_REPETITION = _Range(0.01, 100.0, "Range of repetition_penalty should be [0.01, 100.0]")


def read_sampling(fields: Fields, defaults: Sampling, seed_max: int) -> Sampling:
    """`defaults` are the model's. Raises StudioError for the first value that is out of its range."""
    if _SAMPLING.isdisjoint(fields):
        return defaults
    temperature = _float(fields, "temperature", _TEMPERATURE, defaults.temperature)
    return Sampling(
        temperature=temperature if temperature >= TEMPERATURE_GREEDY else 0.0,
        top_p=_float(fields, "top_p", _TOP_P, defaults.top_p),
        top_k=_top_k(fields, defaults.top_k),
        repetition_penalty=_repetition_penalty(fields, defaults.repetition_penalty),
        presence_penalty=_float(fields, "presence_penalty", _PRESENCE, defaults.presence_penalty),
        frequency_penalty=_float(
            fields, "frequency_penalty", _FREQUENCY, defaults.frequency_penalty
        ),
        seed=_or(integer_within(fields, "seed", 0, seed_max), defaults.seed),
    )


def _float(fields: Fields, name: str, allowed: _Range, default: float) -> float:
    value = number(fields, name)
    if value is None:
        return default
    if value not in allowed:
        raise invalid_parameter(name, allowed.message)
    return float(value)


def _or(value: int | None, default: int | None) -> int | None:
    return default if value is None else value


def _top_k(fields: Fields, default: int) -> int:
    if "top_k" not in fields:
        return default
    value = integer(fields, "top_k")
    if value is None or value > TOP_K_MAX:
        return 0
    if value < 0:
        raise invalid_parameter("top_k", "Parameter top_k be greater than or equal to 0")
    return value


def _repetition_penalty(fields: Fields, default: float) -> float:
    value = number(fields, "repetition_penalty")
    if value is not None and value <= 0:
        raise invalid_parameter(
            "repetition_penalty", "Repetition_penalty should be greater than 0.0"
        )
    return _float(fields, "repetition_penalty", _REPETITION, default)


def read_max_tokens(fields: Fields, model: Model, *names: str, thinks: bool = False) -> int | None:
    """The smallest of the named limits, since each of them holds; None when none is given."""
    output_max = model.thinking_output_max if thinks else model.output_max
    limits = [
        limit
        for name in names
        if (limit := integer_within(fields, name, 1, output_max)) is not None
    ]
    return min(limits, default=None)


def read_n(fields: Fields, n_max: int) -> int:
    return integer_within(fields, "n", 1, n_max) or 1


def read_top_logprobs(fields: Fields) -> int | None:
    """How many rivals each token is scored with; None when no scores are asked for."""
    top = integer_within(fields, "top_logprobs", 0, TOP_LOGPROBS_MAX)
    if boolean(fields, "logprobs"):
        return top or 0
    if top:
        raise invalid_parameter("top_logprobs", "'top_logprobs' needs 'logprobs' to be true")
    return None


def read_stop(fields: Fields) -> Stop:
    """The four forms of `stop`: a text, texts, token ids, sequences of token ids."""
    value = fields.get("stop")
    if value is None or value == []:
        return Stop()
    if type(value) is str:
        value = [value]
    if type(value) is not list:
        raise malformed("stop", _STOP_TYPES)
    if len(value) > STOPS_MAX:
        raise invalid_parameter("stop", f"Range of stop length should be [0, {STOPS_MAX}]")
    kinds = {type(stop) for stop in value}
    if kinds == {str}:
        return Stop(texts=_stop_texts(value))
    if kinds == {int}:
        return Stop(token_ids=tuple([(token,) for token in read_token_ids(value, "stop")]))
    if kinds == {list}:
        return Stop(token_ids=tuple([_stop_tokens(tokens) for tokens in value]))
    raise malformed("stop", _STOP_TYPES)


def _stop_texts(texts: list[str]) -> tuple[str, ...]:
    if not all(1 <= len(stop) <= STOP_CHARACTERS_MAX for stop in texts):
        raise invalid_parameter(
            "stop", f"The length of each stop text should be in [1, {STOP_CHARACTERS_MAX}]"
        )
    return tuple(texts)


def _stop_tokens(tokens: list[object]) -> tuple[TokenId, ...]:
    if not 1 <= len(tokens) <= STOP_TOKENS_MAX:
        raise invalid_parameter(
            "stop", f"The length of each stop token sequence should be in [1, {STOP_TOKENS_MAX}]"
        )
    if any(type(token) is not int for token in tokens):
        raise malformed("stop", _STOP_TYPES)
    return read_token_ids(tokens, "stop")


def read_token_ids(tokens: list[object], param: str) -> tuple[TokenId, ...]:
    """Token ids that fit a signed 32-bit integer; whether a vocabulary has them is not known here."""
    try:
        return msgspec.convert(tokens, _TokenIds)
    except msgspec.ValidationError:
        raise malformed(
            param, f"Token ids in '{param}' should be integers in [0, {TOKEN_ID_MAX}]"
        ) from None
