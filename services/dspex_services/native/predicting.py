"""Predictors over our own prompts and HTTP client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from dspex_bus.signatures import Signature, read_signature

from ..handlers import Step
from ..lm import LMClient, LMConfig, LMReply, LMRequest, json_replies
from ..streaming import Layout
from .adapters import (
    SCHEMA_NAME,
    chat_messages,
    chat_request,
    json_messages,
    json_request,
    parse_chat_reply,
    parse_json_reply,
    response_schema,
)
from .asserting import Assertion, assertions, broken, broken_limits, failed, feedback
from .errors import ReplyError
from .models import Models, ask

_TRIES = 3


class PredictOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``demos`` are examples: objects with the signature's fields. Address and key of the model are the worker's
    own. ``cache`` keeps the model's replies: seconds, true (an hour, or what the operator set), or false to ask anew;
    without it the operator's table decides.

    ``assert`` lists conditions on the outputs, CEL expressions or objects with ``that`` and ``say``. Where one does not
    hold, or a field is not within its limits, the model is told and asked again, ``tries`` times in all (3 with
    assertions, else 1)."""

    signature: str | dict[str, Any]
    instructions: str | None = None
    demos: list[dict[str, Any]] = []
    model: str | None = None
    temperature: float | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    cache: bool | float | None = None
    assert_: list[str | Assertion] = msgspec.field(name="assert", default_factory=list)
    tries: Annotated[int, msgspec.Meta(ge=1, le=10)] | None = None


class Answer(msgspec.Struct, frozen=True):
    layout: Layout
    raw: str
    outputs: dict[str, Any]


async def predict(models: Models, options: PredictOptions, step: Step, *, reasoning: bool = False) -> dict[str, Any]:
    """The signature's outputs. A reply that does not fit the chat layout is asked for once more as JSON, as in DSPy."""
    signature = read_signature(options.signature, options.instructions)
    if reasoning:
        signature = signature.with_reasoning()
    values = signature.validate_inputs(step.inputs)
    client = await models.get(options.model)
    turns = None if step.conversation is None else await step.conversation.history()
    asking = _Asking(client, options, step, signature, values, turns)
    if not options.assert_ and options.tries in (None, 1):
        outputs = (await asking.once("chat", [])).outputs
    else:
        outputs = await _until_it_holds(asking, options)
    if step.conversation is not None:
        await step.conversation.remember(step.inputs, outputs)
    return outputs


def _schema(signature: Signature, config: LMConfig) -> dict[str, Any] | None:
    """What a reply in JSON is held to, as far as the model can be."""
    match json_replies(config):
        case "schema":
            return response_schema(signature)
        case "object":
            return {}
    return None


class _Asking:
    """One prediction's questions."""

    __slots__ = ("_client", "_options", "_step", "_turns", "signature", "values")

    def __init__(
        self,
        client: LMClient,
        options: PredictOptions,
        step: Step,
        signature: Signature,
        values: dict[str, Any],
        turns: list[dict[str, Any]] | None,
    ) -> None:
        self.signature = signature
        self.values = values
        self._client = client
        self._options = options
        self._step = step
        self._turns = turns

    async def once(self, layout: Layout, told: list[dict[str, Any]], *, lenient: bool = True) -> Answer:
        """``told`` are the turns after the first question. What is not in the chat layout is asked for in JSON; without
        ``lenient``, only where fields are missing and not where they are wrong. Raises ReplyError."""
        if layout == "chat":
            reply = await self._say(self._messages(chat_messages) + told, "chat")
            try:
                return Answer("chat", reply.text, parse_chat_reply(self.signature, reply.text))
            except ReplyError as error:
                if not lenient and not error.missing:
                    raise
        reply = await self._say(self._messages(json_messages) + told, "json")
        return Answer("json", reply.text, parse_json_reply(self.signature, reply.text))

    def _messages(self, layout: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
        return layout(self.signature, self.values, self._options.demos, self._turns)

    def _say(self, messages: list[dict[str, Any]], layout: Layout) -> Awaitable[LMReply]:
        options, step, signature = self._options, self._step, self.signature
        request = LMRequest(messages=messages, temperature=options.temperature, max_tokens=options.max_tokens)
        if layout == "json" and (schema := _schema(signature, self._client.config)) is not None:
            strict = True if schema else None
            request = replace(request, response_schema=schema, schema_name=SCHEMA_NAME, strict_schema=strict)
        call = step.tokens.call(layout, signature.output_names) if step.tokens is not None else None
        return ask(self._client, request, step, cache=options.cache, program=signature.digest, call=call)

    def request(self, layout: Layout) -> str:
        return chat_request(self.signature) if layout == "chat" else json_request(self.signature)


async def _until_it_holds(asking: _Asking, options: PredictOptions) -> dict[str, Any]:
    """Raises AssertionFailed after the last try, or ReplyError where even that had not all the fields."""
    signature = asking.signature
    wanted = assertions(options.assert_, {*signature.input_names, *signature.output_names})
    tries = options.tries or _TRIES
    layout: Layout = "chat"
    told: list[dict[str, Any]] = []
    for number in range(1, tries + 1):
        last = number == tries
        try:
            answer = await asking.once(layout, told, lenient=last)
            wrong = broken(wanted, {**asking.values, **answer.outputs})
            if not wrong:
                return answer.outputs
        except ReplyError as error:
            if last and error.missing:
                raise
            answer = Answer("chat" if error.layout == "chat" else "json", error.raw, {})
            wrong = broken_limits(error)
        layout = answer.layout
        told = [*told, *feedback(answer.raw, wrong, asking.request(layout))]
    raise failed(wrong, answer.outputs, answer.raw, tries)
