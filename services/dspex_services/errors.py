"""What handlers and workers raise.

DspexError
├── StepError            a handler's own refusal: ``code`` and ``retryable`` are the handler's to choose
│   └── BudgetExceeded   nothing is left for a call of the model
├── InvalidInput         a task's fields do not fit the handler's input type
├── InvalidOutput        what a handler returned cannot travel
└── UnknownTemplate      the registry has no such template
"""

from __future__ import annotations

from dspex_bus.errors import DspexError, InvalidRequest, NotFound, SetupError

__all__ = ["BudgetExceeded", "InvalidInput", "InvalidOutput", "SetupError", "StepError", "UnknownTemplate"]


class StepError(DspexError):
    """Raise it in a handler to end the attempt with a code of your own. With ``retryable=True`` the step's retry policy
    applies; ``details["retry_after_s"]`` asks for at least that many seconds before the next attempt."""

    code = "step_failed"


class BudgetExceeded(StepError):
    """``details``: ``scope`` (``run`` or ``tenant``), ``unit`` (``cost`` or ``tokens``), ``spent`` and ``limit``."""

    code = "budget_exceeded"
    status = 402


class InvalidInput(InvalidRequest):
    code = "invalid_input"


class InvalidOutput(DspexError):
    code = "invalid_output"


class UnknownTemplate(NotFound):
    code = "unknown_template"
