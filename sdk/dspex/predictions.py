"""What an operation answers with, and operations bound to a signature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dspex_bus.wire import CallReply, Implementation, Usage

if TYPE_CHECKING:
    from ._operations import Operations


class Prediction(Mapping[str, Any]):
    """Output fields, as a mapping and as attributes (``p["answer"]``, ``p.answer``), and what ran.

    ``implementation`` is ``native`` or ``dspy``; ``handler``, ``pool`` and ``worker`` say where; ``duration_us`` is the
    handler's own time in microseconds; ``usage`` counts LM calls and tokens, None where there were none.
    """

    def __init__(self, reply: CallReply) -> None:
        self._outputs = reply.outputs
        self.implementation = reply.implementation
        self.handler = reply.handler
        self.pool = reply.pool
        self.worker = reply.worker
        self.duration_us = reply.duration_us
        self.usage: Usage | None = reply.usage

    def __getitem__(self, field: str) -> Any:
        return self._outputs[field]

    def __getattr__(self, field: str) -> Any:
        try:
            return self.__dict__["_outputs"][field]
        except KeyError:
            raise AttributeError(f"no output field {field!r}; there are: {', '.join(self) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        return f"Prediction({self._outputs!r}, implementation={self.implementation!r})"


class Predictor:
    """An operation bound to its constants: ``await predictor(question="…")``."""

    def __init__(
        self, client: Operations, operation: str, constants: dict[str, Any], implementation: Implementation
    ) -> None:
        self._client = client
        self.operation = operation
        self.constants = constants
        self.implementation: Implementation = implementation

    async def __call__(self, **inputs: Any) -> Prediction:
        return await self._client.call(
            self.operation, inputs=inputs, constants=self.constants, implementation=self.implementation
        )
