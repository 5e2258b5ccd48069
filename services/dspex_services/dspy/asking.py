"""What a metric asks of the world, from a thread of its own: handlers, a judge, the client that serves it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import dspy
import msgspec

from dspex_bus.claim import Claims
from dspex_bus.errors import DeadlineExceeded, Unavailable
from dspex_bus.wire import ErrorInfo, decode, encode, error_from

from ..errors import StepError
from ..handlers import Step

_SERVED_TIMEOUT_S = 60.0
_AWAY_S = 3.0
"""For how long a client that serves a function may be away."""


class Verdict(dspy.Signature):  # type: ignore[misc]
    """Judge how well the prediction meets the criteria. Where the example holds the right answer, hold the prediction
    against it. Judge the content, not its length or style."""

    criteria: str = dspy.InputField()
    example: str = dspy.InputField(desc="what was asked, and the labels that are known")
    prediction: str = dspy.InputField()
    feedback: str = dspy.OutputField(desc="what is missing or wrong, in one sentence")
    score: float = dspy.OutputField(desc="from 0.0 (not at all) to 1.0 (fully)")


class BusAsk:
    """Must be made on the event loop, and used from threads: every call waits for its answer."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._loop = asyncio.get_running_loop()
        self._judge = dspy.ChainOfThought(Verdict)

    def handler(self, name: str, constants: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
        return self._wait(self._step.call(name, constants=constants, **inputs))  # type: ignore[no-any-return]

    def judge(self, criteria: str, example: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]:
        told = self._judge(criteria=criteria, example=_json(example), prediction=_json(prediction))
        return {"score": max(0.0, min(1.0, float(told.score))), "feedback": told.feedback}

    def served(self, subject: str, payload: dict[str, Any]) -> dict[str, Any]:
        return self._wait(self._served(subject, payload))  # type: ignore[no-any-return]

    async def _served(self, subject: str, payload: dict[str, Any]) -> dict[str, Any]:
        until = time.monotonic() + _AWAY_S
        while True:
            try:
                answer = await Claims(self._step.bus).request(subject, encode(payload), timeout_s=_SERVED_TIMEOUT_S)
                break
            except DeadlineExceeded as error:
                raise StepError(
                    f"the client that serves this function did not answer within {_SERVED_TIMEOUT_S:g} s",
                    code="metric_failed",
                ) from error
            except Unavailable as error:
                if time.monotonic() > until:
                    raise StepError(
                        "the client that serves this function is gone; a function that must outlive its client is "
                        f"given by its import path ({error})",
                        code="caller_gone",
                        retryable=True,
                    ) from error
                await asyncio.sleep(0.25)  # it may be connecting again
        if answer.headers and "Nats-Service-Error-Code" in answer.headers:
            raise error_from(decode(ErrorInfo, answer.data, subject=subject))
        return decode(dict[str, Any], answer.data, subject=subject)

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _json(value: dict[str, Any]) -> str:
    return json.dumps(msgspec.to_builtins(value, str_keys=True), ensure_ascii=False, sort_keys=True)
