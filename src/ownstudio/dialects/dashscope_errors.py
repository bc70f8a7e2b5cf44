"""Errors in the native dialect: `code`, `message` and `request_id`, the same before a stream and within it.

The table is total over `ErrorKind`. Words that the real service misspells stay misspelled, since programs
compare them. Messages that it takes from its algorithm layer carry that layer's prefix
(`StudioError.from_engine`). No key is ever null, and none but these three is sent.
"""

import msgspec
from msgspec import Struct

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.dialects.answer_json import one_line
from ownstudio.dialects.thinking import CannotThink

_INVALID = "InvalidParameter"
_ALGORITHM_PARAMETER = "<400> InternalError.Algo.InvalidParameter: "
_ALGORITHM = "<500> InternalError.Algo: "


class _Row(Struct, frozen=True):
    """How one kind is worded.

    `message` replaces that of the error where the two dialects have different sentences; `prefix` goes
    before the message of errors that an engine raised.
    """

    code: str
    message: str = ""
    prefix: str = ""


ERRORS: dict[ErrorKind, _Row] = {
    ErrorKind.INVALID_BODY: _Row(_INVALID),
    ErrorKind.INVALID_PARAMETER: _Row(_INVALID, prefix=_ALGORITHM_PARAMETER),
    ErrorKind.MISSING_PARAMETER: _Row(_INVALID),
    ErrorKind.CONTEXT_TOO_LONG: _Row(_INVALID, prefix=_ALGORITHM_PARAMETER),
    ErrorKind.INVALID_API_KEY: _Row("InvalidApiKey", "Invalid API-key provided."),
    ErrorKind.BLOCKED_API_KEY: _Row("InvalidApiKey"),
    ErrorKind.MISSING_API_KEY: _Row("InvalidApiKey", "No API-key provided."),
    ErrorKind.ACCESS_DENIED: _Row("AccessDenied"),
    ErrorKind.ARREARAGE: _Row("Arrearage"),
    ErrorKind.MODEL_ACCESS_DENIED: _Row("Model.AccessDenied"),
    ErrorKind.WORKSPACE_ACCESS_DENIED: _Row("Workspace.AccessDenied"),
    ErrorKind.FREE_QUOTA_EXHAUSTED: _Row("AllocationQuota.FreeTierOnly"),
    ErrorKind.BUDGET_EXHAUSTED: _Row("AllocationQuota.Budget"),
    ErrorKind.IDEMPOTENCY_CONFLICT: _Row(_INVALID),
    ErrorKind.MODEL_NOT_FOUND: _Row(_INVALID, "Model not exist."),
    ErrorKind.MODEL_NOT_SUPPORTED: _Row(_INVALID),
    ErrorKind.NOT_FOUND: _Row("NotFound"),
    ErrorKind.METHOD_NOT_ALLOWED: _Row(_INVALID),
    ErrorKind.BODY_TOO_LARGE: _Row("BadRequest.TooLarge", "Payload Too Large."),
    ErrorKind.REQUESTS_LIMITED: _Row("Throttling.RateQuota"),
    ErrorKind.TOKENS_LIMITED: _Row("Throttling.AllocationQuota"),
    ErrorKind.BURST_LIMITED: _Row("Throttling.BurstRate"),
    ErrorKind.CONCURRENCY_LIMITED: _Row("Throttling.Concurrency"),
    ErrorKind.INTERNAL: _Row("InternalError", prefix=_ALGORITHM),
    ErrorKind.ENGINE_FAILED: _Row("InternalError.Algo", prefix=_ALGORITHM),
    ErrorKind.TIMEOUT: _Row("RequestTimeOut"),
    ErrorKind.ENGINE_UNAVAILABLE: _Row("ModelUnavailable"),
    ErrorKind.OVERLOADED: _Row("ServiceUnavailable"),
    ErrorKind.SHUTTING_DOWN: _Row("ServiceUnavailable"),
    ErrorKind.STORE_UNAVAILABLE: _Row("ServiceUnavailable"),
}

# What is wrong with these has codes of its own.
_CODES_OF_PARAMETERS: dict[tuple[ErrorKind, str | None], str] = {
    (ErrorKind.MISSING_PARAMETER, "model"): "BadRequest.EmptyModel",
    (ErrorKind.MISSING_PARAMETER, "input"): "BadRequest.EmptyInput",
    (ErrorKind.INVALID_PARAMETER, "input"): "BadRequest.IllegalInput",
}


def error_code(error: StudioError) -> str:
    if isinstance(error, CannotThink):
        return "InvalidParameter.NotSupportEnableThinking"
    return _CODES_OF_PARAMETERS.get((error.kind, error.param), ERRORS[error.kind].code)


def error_message(error: StudioError) -> str:
    row = ERRORS[error.kind]
    if row.message:
        return row.message
    return row.prefix + error.message if error.from_engine else error.message


def error_body(error: StudioError, request_id: str) -> bytes:
    """The JSON of one error, on one line whatever a reader takes for a line end."""
    return one_line(
        msgspec.json.encode(
            {
                "code": error_code(error),
                "message": error_message(error),
                "request_id": request_id,
            }
        )
    )
