"""The tokens of a module's LM calls as they come, by predictor and output field, and which tools it uses.

DSPy says which predictor runs, and in which layout its adapter asks; the engine hears the reply. Both happen in one
task or thread, whichever the module runs in, so what is known of the next call is kept in context variables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import dspy

from ..lm import Delta
from ..streaming import Call, Layout, Tokens

_predictor: ContextVar[str] = ContextVar("dspex_predictor", default="")
_asked: ContextVar[tuple[Layout, list[str]] | None] = ContextVar("dspex_asked", default=None)
_call: ContextVar[Call | None] = ContextVar("dspex_call", default=None)

_LAYOUTS: tuple[tuple[Any, Layout], ...] = (
    (dspy.JSONAdapter, "json"),
    (dspy.XMLAdapter, "xml"),
    (dspy.TwoStepAdapter, "plain"),
    (dspy.ChatAdapter, "chat"),
)
_FINISH = "finish"


class Telling(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
    """One request's. A predictor that is the only one of its module needs no name."""

    def __init__(self, tokens: Tokens, module: Any) -> None:
        self._tokens = tokens
        named = module.named_predictors()
        self._names = {id(predictor): name for name, predictor in named} if len(named) > 1 else {}
        self._tools: dict[str, str] = {}

    def listener(self) -> Callable[[Delta], Awaitable[None]] | None:
        """For the call that is about to be made."""
        call = _call.get()
        return None if call is None else call.hear

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if isinstance(instance, dspy.Predict):
            _predictor.set(self._names.get(id(instance), ""))

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        layout = next((layout for kind, layout in _LAYOUTS if isinstance(instance, kind)), None)
        if layout is not None:
            _asked.set((layout, list(inputs["signature"].output_fields)))

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        # A call that no adapter made, such as a query of generated code, has a text and no fields.
        layout, fields = _asked.get() or ("plain", [])
        _asked.set(None)
        _call.set(self._tokens.call(layout, fields, _predictor.get()))

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        call = _call.get()
        if call is not None:
            call.end()
        _call.set(None)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if instance.name != _FINISH:
            self._tools[call_id] = instance.name
            self._tokens.status(f"uses {instance.name}")

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        name = self._tools.pop(call_id, None)
        if name is not None:
            self._tokens.status(f"{name} {'answered' if exception is None else 'failed'}")

    def on_interpreter_execute_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._tokens.status("runs code")
