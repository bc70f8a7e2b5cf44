"""One body for every error, complete over the kinds."""

import json

import pytest

from ownstudio.core.errors import ErrorKind, StudioError, invalid_parameter
from ownstudio.dialects.openai_chat import OpenAIChat
from ownstudio.dialects.openai_errors import ERRORS, error_body
from ownstudio.dialects.openai_text import OpenAIText

# Refusals that are no fault of the request: clients tell them by a type that is the code itself.
OWN_TYPE = {
    ErrorKind.ARREARAGE,
    ErrorKind.FREE_QUOTA_EXHAUSTED,
    ErrorKind.BUDGET_EXHAUSTED,
    ErrorKind.REQUESTS_LIMITED,
    ErrorKind.TOKENS_LIMITED,
    ErrorKind.BURST_LIMITED,
    ErrorKind.CONCURRENCY_LIMITED,
}


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_has_a_row(kind: ErrorKind) -> None:
    body = json.loads(error_body(StudioError(kind, "what happened", param="p"), "r-1"))
    assert body["error"]["message"] == "what happened"
    assert body["error"]["param"] == "p"
    assert body["error"]["code"]
    if kind.status < 500 and kind not in OWN_TYPE:
        assert body["error"]["type"] == "invalid_request_error"
    else:
        assert body["error"]["type"] == body["error"]["code"]


def test_the_table_holds_no_other_rows() -> None:
    assert set(ERRORS) == set(ErrorKind)


def test_the_shape_and_the_order_of_its_keys() -> None:
    error = StudioError(ErrorKind.INVALID_API_KEY, "Incorrect API key provided. ")
    assert error_body(error, "r-1") == (
        b'{"error":{"message":"Incorrect API key provided. ","type":"invalid_request_error",'
        b'"param":null,"code":"invalid_api_key"},"id":"chatcmpl-r-1","request_id":"r-1"}'
    )


def test_a_model_that_the_key_is_not_meant_for_has_no_code_of_its_own() -> None:
    error = StudioError(ErrorKind.MODEL_ACCESS_DENIED, "Model access denied.")
    assert json.loads(error_body(error, "r-1"))["error"]["code"] == "access_denied"


def test_the_operators_detail_never_leaves() -> None:
    error = StudioError(ErrorKind.INTERNAL, "An internal error has occured", detail="/etc/secret")
    assert b"secret" not in error_body(error, "r-1")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            invalid_parameter("max_tokens", "Range of max_tokens should be [1, 32768]"),
            "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 32768]",
        ),
        (
            StudioError(ErrorKind.ENGINE_FAILED, "list index out of range", from_engine=True),
            "<500> InternalError.Algo: list index out of range",
        ),
        (StudioError(ErrorKind.MODEL_NOT_FOUND, "gone", from_engine=True), "gone"),
        (StudioError(ErrorKind.INVALID_PARAMETER, "wrong type"), "wrong type"),
    ],
)
def test_messages_of_the_algorithm_layer_carry_its_prefix(error: StudioError, message: str) -> None:
    assert json.loads(error_body(error, "r-1"))["error"]["message"] == message


def test_the_id_is_that_of_the_answer_it_stands_for() -> None:
    error = StudioError(ErrorKind.OVERLOADED, "busy")
    assert json.loads(OpenAIChat().error(error, "r-1"))["id"] == "chatcmpl-r-1"
    assert json.loads(OpenAIText().error(error, "r-1"))["id"] == "cmpl-r-1"
