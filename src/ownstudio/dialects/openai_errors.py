"""Errors in the OpenAI dialect: one body for every kind, the same before a stream and within it.

The table is total over `ErrorKind`. Messages that the real service takes from its algorithm layer keep
that layer's prefix (`StudioError.from_engine`); those of its gateway have none: bodies that are not
JSON, wrong types, missing parameters, keys, unknown models.
"""

import msgspec
from msgspec import Struct

from ownstudio.core.errors import ErrorKind, StudioError

_INVALID_REQUEST = "invalid_request_error"
_ALGORITHM_PARAMETER = "<400> InternalError.Algo.InvalidParameter: "
_ALGORITHM = "<500> InternalError.Algo: "


class _Row(Struct, frozen=True):
    """How one kind is worded; `prefix` goes before the message of errors that an engine raised."""

    code: str
    type: str = _INVALID_REQUEST
    prefix: str = ""


_SERVER_ERROR = _Row("internal_server_error", "internal_server_error", _ALGORITHM)
_BUSY = _Row("service_unavailable", "service_unavailable")

ERRORS: dict[ErrorKind, _Row] = {
    ErrorKind.INVALID_BODY: _Row("invalid_parameter_error"),
    ErrorKind.INVALID_PARAMETER: _Row("invalid_parameter_error", prefix=_ALGORITHM_PARAMETER),
    ErrorKind.MISSING_PARAMETER: _Row("missing_required_parameter"),
    ErrorKind.CONTEXT_TOO_LONG: _Row("invalid_parameter_error", prefix=_ALGORITHM_PARAMETER),
    ErrorKind.INVALID_API_KEY: _Row("invalid_api_key"),
    ErrorKind.BLOCKED_API_KEY: _Row("invalid_api_key"),
    ErrorKind.MISSING_API_KEY: _Row("invalid_api_key"),
    ErrorKind.ACCESS_DENIED: _Row("access_denied"),
    ErrorKind.ARREARAGE: _Row("Arrearage", "Arrearage"),
    ErrorKind.MODEL_ACCESS_DENIED: _Row("access_denied"),
    ErrorKind.WORKSPACE_ACCESS_DENIED: _Row("Workspace.AccessDenied"),
    ErrorKind.FREE_QUOTA_EXHAUSTED: _Row(
        "AllocationQuota.FreeTierOnly", "AllocationQuota.FreeTierOnly"
    ),
    ErrorKind.BUDGET_EXHAUSTED: _Row("AllocationQuota.Budget", "AllocationQuota.Budget"),
    ErrorKind.IDEMPOTENCY_CONFLICT: _Row("idempotency_conflict"),
    ErrorKind.MODEL_NOT_FOUND: _Row("model_not_found"),
    ErrorKind.MODEL_NOT_SUPPORTED: _Row("model_not_supported"),
    ErrorKind.NOT_FOUND: _Row("not_found"),
    ErrorKind.METHOD_NOT_ALLOWED: _Row("method_not_allowed"),
    ErrorKind.BODY_TOO_LARGE: _Row("payload_too_large"),
    ErrorKind.REQUESTS_LIMITED: _Row("limit_requests", "limit_requests"),
    # Not what OpenAI means by these words: it passes by itself within a minute, which Retry-After says.
    ErrorKind.TOKENS_LIMITED: _Row("insufficient_quota", "insufficient_quota"),
    ErrorKind.BURST_LIMITED: _Row("limit_burst_rate", "limit_burst_rate"),
    ErrorKind.CONCURRENCY_LIMITED: _Row("limit_concurrency", "limit_concurrency"),
    ErrorKind.INTERNAL: _SERVER_ERROR,
    ErrorKind.ENGINE_FAILED: _SERVER_ERROR,
    ErrorKind.TIMEOUT: _Row("request_timeout", "request_timeout"),
    ErrorKind.ENGINE_UNAVAILABLE: _Row("model_unavailable", "model_unavailable"),
    ErrorKind.OVERLOADED: _BUSY,
    ErrorKind.SHUTTING_DOWN: _BUSY,
    ErrorKind.STORE_UNAVAILABLE: _BUSY,
}


def error_body(error: StudioError, request_id: str, id_prefix: str = "chatcmpl-") -> bytes:
    """The JSON of one error. `id_prefix` is that of the answer which the error stands for."""
    row = ERRORS[error.kind]
    return msgspec.json.encode(
        {
            "error": {
                "message": row.prefix + error.message if error.from_engine else error.message,
                "type": row.type,
                "param": error.param,
                "code": row.code,
            },
            "id": id_prefix + request_id,
            "request_id": request_id,
        }
    )
