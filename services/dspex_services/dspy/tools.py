"""ReAct's tools: handlers anywhere on the bus, called as the model asks."""

from __future__ import annotations

from typing import Any

import dspy
import msgspec

from dspex_bus import subjects
from dspex_bus.wire import CallReply, CallRequest, ErrorInfo, decode, encode

from ..errors import StepError
from ..handlers import Step

_TOOL_TIMEOUT_S = 30.0


class ToolOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A tool: the ``handler`` that runs it, constants ``with`` that the model neither sees nor chooses, and what the
    model is told: ``name``, ``description`` and ``args``, each argument's JSON Schema."""

    handler: str
    name: str | None = None
    description: str = ""
    args: dict[str, dict[str, Any]] = {}
    with_: dict[str, Any] = msgspec.field(name="with", default_factory=dict)


def bus_tool(wanted: str | ToolOptions, step: Step) -> Any:
    """A ``dspy.Tool`` that calls a handler through the execution router. What goes wrong becomes an observation that
    the model reads; it does not end the step."""
    options = ToolOptions(handler=wanted) if isinstance(wanted, str) else wanted

    async def use(**arguments: Any) -> Any:
        request = CallRequest(
            with_=options.with_, inputs=arguments, timeout_s=max(0.1, min(_TOOL_TIMEOUT_S, step.remaining_s))
        )
        subject = subjects.call(options.handler)
        answer = await step.bus.request(subject, encode(request), timeout_s=(request.timeout_s or 0) + 1)
        if answer.headers and "Nats-Service-Error-Code" in answer.headers:
            error = decode(ErrorInfo, answer.data, subject=subject)
            raise StepError(error.message, code=error.code, retryable=error.retryable)
        return decode(CallReply, answer.data, subject=subject).outputs

    args = options.args or {"query": {"type": "string"}}
    return dspy.Tool(
        use,
        name=(options.name or options.handler).replace(".", "_").replace("-", "_"),
        desc=options.description or f"Calls {options.handler}.",
        args=args,
        arg_types={name: _python_type(schema) for name, schema in args.items()},
    )


def _python_type(schema: dict[str, Any]) -> Any:
    kinds = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
    return kinds.get(str(schema.get("type")), Any)
