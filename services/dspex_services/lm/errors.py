"""What can go wrong in a call to a language model, by what the caller can do.

    LMError
    ├── LMRateLimited     429: wait (``retry_after_s`` when the provider said how long), then try again
    ├── LMUnavailable     no connection, 5xx, or a stream that was cut: try again
    │   └── LMCircuitOpen it kept failing and is left alone for ``retry_after_s``
    ├── LMTimeout         no answer in the time given
    ├── LMAuth            the key is missing or refused
    ├── LMBadRequest      the provider refused the request: fix it
    │   └── LMContextTooLong  more tokens than the model takes: send less
    ├── LMQuota           the account has no credit left
    └── LMBadReply        the answer is not what the protocol promises

``details`` may hold ``http_status``, ``provider``, ``attempts`` and ``retry_after_s`` (seconds). No error shows a key.
"""

from __future__ import annotations

from dspex_bus.errors import DspexError


class LMError(DspexError):
    code = "lm_failed"
    status = 502

    @property
    def retry_after_s(self) -> float | None:
        """Seconds the provider asked to wait, or None."""
        value = self.details.get("retry_after_s")
        return None if value is None else float(value)


class LMRateLimited(LMError):
    code = "lm_rate_limited"
    retryable = True
    status = 429


class LMUnavailable(LMError):
    code = "lm_unavailable"
    retryable = True
    status = 503


class LMCircuitOpen(LMUnavailable):
    code = "lm_circuit_open"


class LMTimeout(LMError):
    code = "lm_timeout"
    retryable = True
    status = 504


class LMAuth(LMError):
    code = "lm_auth"
    status = 401


class LMBadRequest(LMError):
    code = "lm_bad_request"
    status = 400


class LMContextTooLong(LMBadRequest):
    code = "lm_context_too_long"


class LMQuota(LMError):
    code = "lm_quota"
    status = 402


class LMBadReply(LMError):
    code = "lm_bad_reply"
    retryable = True
