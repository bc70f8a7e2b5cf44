"""The native error table: total, in the service's words, on one line."""

import json

import pytest

from ownstudio.core.errors import ErrorKind, StudioError, invalid_parameter
from ownstudio.dialects.dashscope_errors import ERRORS, error_body


def test_the_table_is_total() -> None:
    assert set(ERRORS) == set(ErrorKind)


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_has_the_three_keys(kind: ErrorKind) -> None:
    body = json.loads(error_body(StudioError(kind, "why", param="x"), "id"))
    assert set(body) == {"code", "message", "request_id"}
    assert body["code"]
    assert body["message"]
    assert body["request_id"] == "id"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            StudioError(ErrorKind.INVALID_API_KEY, "Incorrect API key provided. "),
            "InvalidApiKey",
            "Invalid API-key provided.",
        ),
        (
            StudioError(ErrorKind.MISSING_API_KEY, "?"),
            "InvalidApiKey",
            "No API-key provided.",
        ),
        (
            invalid_parameter("top_p", "Range of top_p should be (0.0, 1.0]"),
            "InvalidParameter",
            "<400> InternalError.Algo.InvalidParameter: Range of top_p should be (0.0, 1.0]",
        ),
        (
            StudioError(ErrorKind.MISSING_PARAMETER, "m", param="model"),
            "BadRequest.EmptyModel",
            "m",
        ),
        (
            StudioError(ErrorKind.BODY_TOO_LARGE, "m"),
            "BadRequest.TooLarge",
            "Payload Too Large.",
        ),
        (StudioError(ErrorKind.TIMEOUT, "late"), "RequestTimeOut", "late"),
        (StudioError(ErrorKind.ENGINE_UNAVAILABLE, "down"), "ModelUnavailable", "down"),
        (StudioError(ErrorKind.OVERLOADED, "full"), "ServiceUnavailable", "full"),
    ],
)
def test_words(error: StudioError, code: str, message: str) -> None:
    body = json.loads(error_body(error, "id"))
    assert (body["code"], body["message"]) == (code, message)


def test_a_message_cannot_end_the_line() -> None:
    body = error_body(StudioError(ErrorKind.INTERNAL, "a\u2028b\n"), "id")
    assert len(body.decode().splitlines()) == 1
