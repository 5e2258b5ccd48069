"""What handlers and workers raise.

DspexError
├── StepError        a handler's own refusal: ``code`` and ``retryable`` are the handler's to choose
├── InvalidInput     a task's fields do not fit the handler's input type
└── InvalidOutput    what a handler returned cannot travel
"""

from __future__ import annotations

from dspex_bus.errors import DspexError, InvalidRequest, SetupError

__all__ = ["InvalidInput", "InvalidOutput", "SetupError", "StepError"]


class StepError(DspexError):
    """Raise it in a handler to end the attempt with a code of your own. With ``retryable=True`` the step's retry policy
    applies; ``details["retry_after_s"]`` asks for at least that many seconds before the next attempt."""

    code = "step_failed"


class InvalidInput(InvalidRequest):
    code = "invalid_input"


class InvalidOutput(DspexError):
    code = "invalid_output"
