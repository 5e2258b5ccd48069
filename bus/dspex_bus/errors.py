"""The project's errors, in one tree that branches by what the caller can do.

    DspexError
    ├── InvalidRequest          fix the call: nothing was started
    │   ├── DecodeError         the bytes are not the message that belongs on that subject
    │   │   └── ObjectGone      the object that holds a message's body is gone, or is another
    │   ├── InvalidName         a name cannot be a subject token
    │   ├── InvalidPipeline     a definition cannot be compiled; ``path`` names the step
    │   ├── NotFound            no such pipeline, session, handler or key
    │   ├── NotPermitted        the server does not let this user do that
    │   └── PayloadTooLarge     more bytes than the system carries
    ├── Unavailable             try again: the world, not the call, is at fault
    │   ├── Disconnected        no connection to the server
    │   ├── NoRouter            nobody answers requests
    │   ├── NewerJournal        the session's journal needs a newer release than was asked
    │   ├── NoWorkers           no live worker in the pool
    │   ├── DeadlineExceeded    no answer in time
    │   ├── SlowConsumer        what came faster than it was taken is lost
    │   └── StoreFailed         the server refused to store a message
    ├── Conflict                somebody decided first; read what they decided
    ├── RunFailed               a run or a step ended without success; ``code`` says why
    └── SetupError              this machine lacks something; the message says how to get it

Every error has a stable ``code`` (what programs match), a message a person can act on, ``details``
(JSON-friendly) and ``retryable``. ``status`` is its HTTP-like number for the NATS service headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class DspexError(Exception):
    """Root of all errors raised by dspex."""

    code: str = "internal"
    retryable: bool = False
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable
        self.details: dict[str, Any] = dict(details or {})

    @property
    def message(self) -> str:
        return str(self.args[0])


class InvalidRequest(DspexError):
    code = "invalid_request"
    status = 400


class DecodeError(InvalidRequest):
    """Carries the ``subject`` and the ``raw`` bytes, so that a consumer can dead-letter them."""

    code = "malformed_message"

    def __init__(self, message: str, *, subject: str, raw: bytes, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, details={"subject": subject, **(details or {})})
        self.raw = raw

    @property
    def subject(self) -> str:
        return str(self.details.get("subject", ""))


class ObjectGone(DecodeError):
    code = "object_gone"


class InvalidName(InvalidRequest):
    code = "invalid_name"


class InvalidPipeline(InvalidRequest):
    """``path`` is where in the definition the fault is, for example ``steps[2].parallel[0].with``."""

    code = "invalid_pipeline"

    def __init__(self, message: str, *, path: str, code: str | None = None, details: Mapping[str, Any] | None = None):
        super().__init__(f"{path}: {message}", code=code, details={"path": path, **(details or {})})

    @property
    def path(self) -> str:
        return str(self.details.get("path", ""))


class NotFound(InvalidRequest):
    code = "not_found"
    status = 404


class NotPermitted(InvalidRequest):
    code = "not_permitted"
    status = 403


class PayloadTooLarge(InvalidRequest):
    code = "payload_too_large"
    status = 413


class Unavailable(DspexError):
    code = "unavailable"
    retryable = True
    status = 503


class Disconnected(Unavailable):
    code = "disconnected"


class NoRouter(Unavailable):
    code = "no_router"


class NewerJournal(Unavailable):
    """``details`` has the ``session``, its ``format`` and the ``release`` that made it."""

    code = "newer_journal"


class NoWorkers(Unavailable):
    code = "no_workers"


class DeadlineExceeded(Unavailable):
    code = "deadline_exceeded"
    status = 504


class SlowConsumer(Unavailable):
    code = "slow_consumer"


class StoreFailed(Unavailable):
    code = "store_failed"


class Conflict(DspexError):
    code = "conflict"
    status = 409


class RunFailed(DspexError):
    code = "run_failed"


class SetupError(DspexError):
    code = "setup"


def all_errors() -> dict[str, type[DspexError]]:
    """Every error class by its code; what a code from the wire is turned back into."""
    found: dict[str, type[DspexError]] = {}
    pending: list[type[DspexError]] = [DspexError]
    while pending:
        cls = pending.pop()
        found.setdefault(cls.code, cls)
        pending.extend(cls.__subclasses__())
    return found
