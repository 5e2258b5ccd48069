"""DSPy's errors as ours: stable codes, and whether trying again may help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dspy.utils import exceptions as theirs

from ..errors import StepError
from ..lm import LMError

# The first that fits counts, so the special ones come before their base classes.
_CODES: tuple[tuple[Any, str, bool], ...] = (
    (theirs.LMRateLimitError, "lm_rate_limited", True),
    (theirs.LMAuthError, "lm_auth", False),
    (theirs.LMTimeoutError, "lm_timeout", True),
    (theirs.LMInvalidRequestError, "lm_bad_request", False),
    (theirs.LMConfigurationError, "lm_not_configured", False),
    (theirs.LMTransportError, "lm_unavailable", True),
    (theirs.LMServerError, "lm_unavailable", True),
    (theirs.LMError, "lm_failed", False),
    (theirs.AdapterParseError, "reply_malformed", True),
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise DSPy's errors as StepError, and those that our engine gave it as what they were."""
    try:
        yield
    except theirs.DSPyError as error:
        if (ours := _ours(error)) is not None:
            raise ours from error
        for kind, code, retryable in _CODES:
            if isinstance(error, kind):
                details = {"http_status": error.status} if error.status else {}
                if error.retry_after:
                    details["retry_after_s"] = error.retry_after
                raise StepError(str(error), code=code, retryable=retryable, details=details) from error
        raise StepError(str(error), code="dspy_failed") from error


def _ours(error: BaseException | None) -> LMError | None:
    while error is not None and not isinstance(error, LMError):
        error = error.__cause__
    return error
