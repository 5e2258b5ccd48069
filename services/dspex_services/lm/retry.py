"""When to try again, and after how long. Pure: the clock and the dice are the caller's."""

from __future__ import annotations

from .errors import LMError, LMTimeout
from .types import LMConfig


def delay_before_retry(config: LMConfig, error: LMError, *, attempt: int, left_s: float, dice: float) -> float | None:
    """Seconds to wait before attempt ``attempt + 1`` (attempts count from 1), or None when the error stands.

    The back-off doubles, with jitter from ``dice`` in [0, 1); a ``Retry-After`` is honoured exactly, and where it
    does not fit into ``left_s``, the time left, waiting would be in vain.
    """
    if not error.retryable or isinstance(error, LMTimeout) or attempt >= config.max_attempts:
        return None
    asked = error.retry_after_s
    backoff = config.backoff_s * 2.0 ** (attempt - 1) * (0.5 + dice / 2)
    delay = backoff if asked is None else asked
    return delay if delay < left_s else None
