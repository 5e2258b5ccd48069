"""Operations: one answer, nothing stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dspex_bus import subjects
from dspex_bus.wire import Budget, CallReply, CallRequest, Implementation

from ._asking import Asking
from .predictions import Prediction, Predictor
from .signing import SignatureForm, sendable, signature, signed

if TYPE_CHECKING:
    from dspex_bus.signatures import Signature

DEFAULT_TIMEOUT_S = 60.0
_MARGIN_S = 5.0
"""How much longer a client waits than it allows the work to take, so that the system's own answer comes first."""


class Operations(Asking):
    """Predictions, model calls, and any handler by name."""

    def signature(self, spec: SignatureForm, instructions: str | None = None) -> Signature:
        """The signature that ``spec`` spells out, as :func:`dspex.signature`. Read here: it costs microseconds and no
        message."""
        return signature(spec, instructions)

    async def compile_signature(self, spec: SignatureForm, **options: Any) -> Prediction:
        """The signature's fields, JSON Schemas and digest, as any client in any language gets them."""
        return await self.call("compile_signature", constants=signed(spec, "spec"), **options)

    async def predict(
        self,
        signature: SignatureForm,
        inputs: Mapping[str, Any] | None = None,
        *,
        implementation: Implementation = "auto",
        config: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        **fields: Any,
    ) -> Prediction:
        """The signature's outputs for ``inputs`` (a mapping, or keywords). ``config``: model, temperature,
        max_tokens, demos."""
        constants = {**signed(signature), **(config or {})}
        values = {**(inputs or {}), **fields}
        return await self.call(
            "predict", inputs=values, constants=constants, implementation=implementation, timeout_s=timeout_s
        )

    async def attach(self, data: bytes, media_type: str | None = None) -> dict[str, str]:
        """Keep a picture, a recording or a file on the bus: give the reference as the input of any number of runs. It
        stays until it is deleted."""
        from dspex_services.references import attached

        return await attached(self.bus, data, media_type)

    async def lm(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        config: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        **limits: Any,
    ) -> Prediction:
        """A direct call of the model, without a signature: a text or messages in; ``text``, ``tool_calls``,
        ``message``, ``finish_reason`` and ``usage`` out. ``config``: model, system, temperature, response_schema…"""
        asked = {"prompt": prompt} if isinstance(prompt, str) else {"messages": [dict(message) for message in prompt]}
        constants = {**(config or {}), **({"tools": [dict(tool) for tool in tools]} if tools else {})}
        return await self.call("lm", inputs=asked, constants=constants, timeout_s=timeout_s, **limits)

    def predictor(
        self, kind: str, signature: SignatureForm, *, implementation: Implementation = "auto", **config: Any
    ) -> Predictor:
        """An operation bound to a signature. ``kind``: ``predict``, ``chain_of_thought``, ``react``, or any
        handler's name."""
        return Predictor(self, kind, {**signed(signature), **config}, implementation)

    def chain_of_thought(self, signature: SignatureForm, **config: Any) -> Predictor:
        """A predictor that reasons before it answers; its outputs have a ``reasoning`` field."""
        return self.predictor("chain_of_thought", signature, **config)

    def react(self, signature: SignatureForm, tools: Sequence[Any], **config: Any) -> Predictor:
        """A predictor that uses tools, which are handlers on the bus: their names, or mappings with ``name``,
        ``handler`` and the constants ``with``."""
        return self.predictor("react", signature, tools=list(tools), **config)

    async def call(
        self,
        operation: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        constants: Mapping[str, Any] | None = None,
        implementation: Implementation = "auto",
        pool: str | None = None,
        timeout_s: float | None = None,
        budget: Budget | None = None,
        tenant: str = "",
    ) -> Prediction:
        """One operation, or any handler by name. The execution router picks the implementation; the answer says
        which."""
        request = CallRequest(
            with_=sendable(dict(constants or {})),
            inputs=dict(inputs or {}),
            implementation=implementation,
            pool=pool,
            timeout_s=timeout_s,
            budget=budget,
            tenant=tenant,
        )
        wait = (timeout_s or DEFAULT_TIMEOUT_S) + _MARGIN_S
        return Prediction(await self._ask(subjects.call(operation), request, CallReply, wait))
