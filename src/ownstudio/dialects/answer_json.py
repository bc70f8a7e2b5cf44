"""What the answers of every dialect hold alike: JSON on one line, what was cached of a prompt, and log probabilities
that JSON can hold."""

from collections.abc import Sequence

from ownstudio.core.events import TokenLogprob, Usage

Json = dict[str, object]

# What clients expect for "impossible": JSON has no infinity.
LOGPROB_MIN = -9999.0


def one_line(json: bytes) -> bytes:
    """JSON without the characters that some clients take for line ends: U+0085, U+2028, U+2029.

    Server-sent events end lines only at CR and LF, which JSON escapes anyway; but readers that split
    decoded text, such as Python's `str.splitlines`, would cut an event in two.
    """
    if b"\xe2\x80\xa8" in json or b"\xe2\x80\xa9" in json or b"\xc2\x85" in json:
        return (
            json.replace(b"\xe2\x80\xa8", rb"\u2028")
            .replace(b"\xe2\x80\xa9", rb"\u2029")
            .replace(b"\xc2\x85", rb"\u0085")
        )
    return json


def prompt_details(usage: Usage) -> Json:
    """How much of the prompt was cached; where the request marked what to cache, also how much will be."""
    if not usage.explicit_cache:
        return {"cached_tokens": usage.cached_tokens}
    created = usage.cache_creation_tokens
    return {
        "cached_tokens": usage.cached_tokens,
        "text_tokens": usage.prompt_tokens,
        "cache_type": "ephemeral",
        "cache_creation_input_tokens": created,
        "cache_creation": {"ephemeral_5m_input_tokens": created},
    }


def logprobs_json(tokens: Sequence[TokenLogprob]) -> Json:
    return {
        "content": [
            {
                "token": token.token,
                "bytes": token.bytes,
                "logprob": finite(token.logprob),
                "top_logprobs": [
                    {"token": top.token, "bytes": top.bytes, "logprob": finite(top.logprob)}
                    for top in token.top
                ],
            }
            for token in tokens
        ]
    }


def finite(logprob: float) -> float:
    """A log probability that JSON can hold."""
    # Written so that NaN, too, becomes the minimum.
    return logprob if logprob > LOGPROB_MIN else LOGPROB_MIN
