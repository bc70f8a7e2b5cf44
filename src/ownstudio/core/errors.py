"""Every refusal and failure that a client can see.

One exception class and one closed set of kinds: a layer raises `StudioError(kind, message)`, a dialect
maps the kind to its own code and type (its table must be total, which a test checks), and nobody below
`web` thinks about HTTP beyond the status that belongs to the kind. `detail` is for the operator's log
and never leaves the machine.
"""

from enum import Enum


class ErrorKind(Enum):
    """A stable machine word with the HTTP status that both dialects give it."""

    INVALID_BODY = ("invalid_body", 400)
    INVALID_PARAMETER = ("invalid_parameter", 400)
    MISSING_PARAMETER = ("missing_parameter", 400)
    CONTEXT_TOO_LONG = ("context_too_long", 400)
    ARREARAGE = ("arrearage", 400)
    INVALID_API_KEY = ("invalid_api_key", 401)
    BLOCKED_API_KEY = ("blocked_api_key", 401)
    MISSING_API_KEY = ("missing_api_key", 401)
    ACCESS_DENIED = ("access_denied", 403)
    MODEL_ACCESS_DENIED = ("model_access_denied", 403)
    WORKSPACE_ACCESS_DENIED = ("workspace_access_denied", 403)
    FREE_QUOTA_EXHAUSTED = ("free_quota_exhausted", 403)
    BUDGET_EXHAUSTED = ("budget_exhausted", 403)
    MODEL_NOT_FOUND = ("model_not_found", 404)
    MODEL_NOT_SUPPORTED = ("model_not_supported", 404)
    NOT_FOUND = ("not_found", 404)
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405)
    IDEMPOTENCY_CONFLICT = ("idempotency_conflict", 409)
    BODY_TOO_LARGE = ("body_too_large", 413)
    REQUESTS_LIMITED = ("requests_limited", 429)
    TOKENS_LIMITED = ("tokens_limited", 429)
    BURST_LIMITED = ("burst_limited", 429)
    CONCURRENCY_LIMITED = ("concurrency_limited", 429)
    INTERNAL = ("internal", 500)
    ENGINE_FAILED = ("engine_failed", 500)
    TIMEOUT = ("timeout", 500)
    ENGINE_UNAVAILABLE = ("engine_unavailable", 503)
    OVERLOADED = ("overloaded", 503)
    SHUTTING_DOWN = ("shutting_down", 503)
    STORE_UNAVAILABLE = ("store_unavailable", 503)

    def __init__(self, word: str, status: int) -> None:
        self.word = word
        self.status = status


class StudioError(Exception):
    """What went wrong, in words for the client (`message`) and, apart, for the operator (`detail`).

    `param` names the request parameter at fault. `from_engine` marks the refusals that the real service
    prefixes with its algorithm layer's code. `retry_after` is in seconds. `remarks` are said beside the error, as
    headers over HTTP.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        param: str | None = None,
        detail: str = "",
        retry_after: float | None = None,
        from_engine: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.param = param
        self.detail = detail
        self.retry_after = retry_after
        self.from_engine = from_engine
        self.remarks: tuple[tuple[str, str], ...] = ()

    @property
    def status(self) -> int:
        return self.kind.status


def invalid_parameter(param: str, message: str) -> StudioError:
    """The common refusal: `param` is out of range or of the wrong type, `message` says what is allowed."""
    return StudioError(ErrorKind.INVALID_PARAMETER, message, param=param, from_engine=True)
