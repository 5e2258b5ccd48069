"""Modules, metrics and handlers that an operator might list."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import msgspec

from dspex_services.errors import StepError
from dspex_services.handlers import Handlers, Step


class TwoHops(dspy.Module):  # type: ignore[misc]
    """Find what to ask, then answer."""

    def __init__(self) -> None:
        self.ask = dspy.Predict("context, question -> query")
        self.answer = dspy.ChainOfThought("context, question, query -> answer")

    def forward(self, context: str, question: str) -> Any:
        query = self.ask(context=context, question=question).query
        return self.answer(context=context, question=question, query=query)


class Awaited(dspy.Module):  # type: ignore[misc]
    """Only to be awaited."""

    def __init__(self) -> None:
        self.ask = dspy.Predict("context, question -> answer")

    async def aforward(self, context: str, question: str) -> Any:
        return await self.ask.acall(context=context, question=question)


class Base(dspy.Module):  # type: ignore[misc]
    """What others are made of."""


class Car(dspy.Module):  # type: ignore[misc]
    """Has inputs with names that a step has for its model."""

    def __init__(self) -> None:
        self.ask = dspy.Predict("model, question -> answer")

    def forward(self, model: str, question: str, temperature: str = "cold") -> Any:
        answer = self.ask(model=model, question=question).answer
        return dspy.Prediction(answer=answer, model=model, temperature=temperature, asked=dspy.settings.lm.model)


class Gallery(dspy.Module):  # type: ignore[misc]
    """Look twice: what it is told is no type of its own."""

    def __init__(self) -> None:
        self.look = dspy.Predict("image: dspy.Image -> colour")
        self.answer = dspy.Predict("image: dspy.Image, colour, question -> answer")

    def forward(self, image: Any, question: str) -> Any:
        return self.answer(image=image, colour=self.look(image=image).colour, question=question)


def short(example: Any, prediction: Any, trace: Any = None) -> float:
    """1 for an answer of at most three words."""
    return float(len(str(prediction.answer).split()) <= 3)


class Fickle(dspy.Module):  # type: ignore[misc]
    """Answers otherwise each time it is really called."""

    calls = 0

    def __init__(self) -> None:
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        Fickle.calls += 1
        self.ask(question=question)
        return dspy.Prediction(answer=f"{question} {Fickle.calls}")


def timely(example: Any, prediction: Any, trace: Any = None) -> bool:
    """Sees values of the signature's types, not text."""
    return isinstance(prediction.seconds, int) and prediction.seconds == example.seconds


handlers = Handlers()


class Text(msgspec.Struct):
    text: str


@handlers.handler("lookup.heartbeat")
def heartbeat(request: Text) -> dict[str, str]:
    """Look up how often a worker sends a heartbeat."""
    return {"passage": "A worker sends a heartbeat every 5 seconds."}


@handlers.handler("lookup.broken")
def broken(request: Text) -> dict[str, str]:
    """Look up how often a worker sends a heartbeat, from the archive of heartbeat facts."""
    raise StepError("the archive is closed", code="closed")


class Judged(msgspec.Struct):
    example: dict[str, Any]
    prediction: dict[str, Any]
    longest: int = 3


@handlers.handler("score.short")
def score(request: Judged, step: Step) -> dict[str, Any]:
    """1 for a short answer."""
    return {"score": float(len(request.prediction["answer"].split()) <= request.longest), "feedback": "be brief"}


slow = Handlers()


@slow.handler("slow.search")
async def search(request: Text) -> dict[str, str]:
    """Search for anything, slowly."""
    await asyncio.sleep(30)
    return {"passage": ""}
