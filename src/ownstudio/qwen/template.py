"""A model's own chat template: compiled once, rendered within bounds.

The template is a stranger's program (see `template_sandbox`), the messages are a client's. When a render fails,
`TemplateError` says whose fault it is: the template itself refused the messages (`refused`, its words are for
the client), or the template is broken or wants too much (for the operator).
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from re import fullmatch
from typing import Any, NoReturn

import jinja2

from ownstudio.qwen.template_budget import Budget, OverBudgetError, current_budget, measured
from ownstudio.qwen.template_sandbox import BoundedEnvironment

SOURCE_CHARS_MAX = 512 * 1024
STEPS_MAX = 2_000_000
CHARS_MIN = 4 * 1024 * 1024
CHARS_PER_INPUT_CHAR = 64
INPUT_CHARS_MAX = 256 * 1024 * 1024
SECONDS_MAX = 2.0
REFUSAL_CHARS_MAX = 500

Clock = Callable[[], datetime]

# All that a stranger's program can raise in an interpreter that keeps it from everything else.
_FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class TemplateError(Exception):
    """A template that cannot be compiled or rendered. The text is safe for the client, `detail` for the operator.

    `refused` says that the template itself raised the error, about the messages.
    """

    def __init__(self, message: str, *, refused: bool = False, detail: str = "") -> None:
        super().__init__(message)
        self.refused = refused
        self.detail = detail


class ChatTemplate:
    """Raises TemplateError for a template that Jinja does not understand.

    `clock` is what `strftime_now` reads; without one a template that asks for the time fails.
    """

    def __init__(
        self, source: str, *, clock: Clock | None = None, seconds_max: float = SECONDS_MAX
    ) -> None:
        if len(source) > SOURCE_CHARS_MAX:
            raise TemplateError(f"The chat template is longer than {SOURCE_CHARS_MAX} characters.")
        self._seconds_max = seconds_max
        self._clock = clock
        environment = BoundedEnvironment()
        token = current_budget.set(Budget(STEPS_MAX, CHARS_MIN, seconds_max))
        try:
            code = environment.compile(environment.metered(source))
            self._template = jinja2.Template.from_code(
                environment,
                code,
                {
                    **environment.globals,
                    "raise_exception": _raise_exception,
                    "strftime_now": self._strftime_now,
                },
            )
        except OverBudgetError:
            raise TemplateError("The chat template takes too long to compile.") from None
        except (*_FAULTS, SyntaxError) as fault:
            raise TemplateError(
                "The chat template cannot be compiled.", detail=_described(fault)
            ) from None
        finally:
            current_budget.reset(token)

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text that the template makes of `variables` (texts, numbers, lists, dicts). Raises TemplateError."""
        token = current_budget.set(Budget(STEPS_MAX, INPUT_CHARS_MAX, self._seconds_max))
        try:
            current_budget.set(self._budget(variables))
            context = self._template.new_context(dict(variables))
            return "".join(self._template.root_render_func(context))
        except OverBudgetError:
            raise TemplateError("The chat template takes too much time or memory.") from None
        except _FAULTS as fault:
            raise TemplateError(
                "The chat template cannot render these messages.", detail=_described(fault)
            ) from None
        finally:
            current_budget.reset(token)

    def _budget(self, variables: Mapping[str, Any]) -> Budget:
        """In proportion to what there is to render."""
        measured(dict(variables))
        used = INPUT_CHARS_MAX - current_budget.get().chars
        chars = CHARS_MIN + CHARS_PER_INPUT_CHAR * used
        return Budget(STEPS_MAX, chars, self._seconds_max)

    def _strftime_now(self, pattern: str) -> str:
        if self._clock is None:
            raise TypeError("the template asks for the time, and there is no clock")
        # Letters only: the C library would pad a field to any width that a pattern asks for.
        if len(pattern) > 100 or not fullmatch(r"(?:[^%\x00]|%-?[A-Za-z%])*", pattern):
            raise ValueError("the template asks for the time in an unusual form")
        return self._clock().strftime(pattern)


def _raise_exception(message: object) -> NoReturn:
    text = message if isinstance(message, str) else "The chat template refused the messages."
    raise TemplateError(text[:REFUSAL_CHARS_MAX], refused=True)


def _described(fault: BaseException) -> str:
    line = f" in line {fault.lineno}" if isinstance(fault, jinja2.TemplateSyntaxError) else ""
    return f"{type(fault).__name__}{line}: {str(fault)[:500]}"
