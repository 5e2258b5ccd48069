"""What a call may use, told beforehand from the size of its request and from what former calls of its model used."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from .media import excess
from .types import LMConfig, LMRequest, Usage

_TOKENS_PER_BYTE = 0.25
_OUTPUT = 1024
"""Of a model that has answered nothing yet, and whose call sets no limit."""
_FORGETS = 0.1

_encode = msgspec.json.Encoder().encode


class Expecting:
    """The most that lately came, forgotten by a tenth with each reply: few calls use more. Used from any thread."""

    def __init__(self) -> None:
        self._per_byte = 0.0
        self._output: float | None = None

    def of(self, config: LMConfig, request: LMRequest) -> Callable[[], Usage]:
        """What is expected when it is asked, by what has come until then."""
        size = len(_encode(request)) - excess(request.messages)
        return lambda: self._now(config, request, size)

    def _now(self, config: LMConfig, request: LMRequest, size: int) -> Usage:
        most = request.max_tokens if request.max_tokens is not None else config.max_tokens
        output = self._output if self._output is not None else _OUTPUT if most is None else most
        if request.reasoning_effort is not None:  # its thinking may come on top
            most = None
        return Usage(
            input_tokens=int(size * (self._per_byte or _TOKENS_PER_BYTE)) + 1,
            output_tokens=round(output if most is None else min(most, output)),
        )

    def learn(self, size: int, used: Usage) -> None:
        """A request of ``size`` bytes used so much."""
        per_byte, known = used.input_tokens / (size or 1), self._per_byte
        self._per_byte = per_byte if per_byte >= known else known + (per_byte - known) * _FORGETS
        output, most = used.output_tokens, self._output
        self._output = output if most is None or output >= most else most + (output - most) * _FORGETS
