"""DSPy makes a type adapter for every value that it formats or reads, which costs more than to use it."""

from __future__ import annotations

import inspect
import typing
from functools import lru_cache
from typing import Any

import dspy
from pydantic import TypeAdapter

_KEPT = 512

_of_class = lru_cache(maxsize=_KEPT)(TypeAdapter)


def _type_adapter(annotation: Any) -> Any:
    """That of a class is kept. Other annotations may be equal and yet be read differently, as unions are that differ in
    their order alone."""
    plain = inspect.isclass(annotation) and typing.get_origin(annotation) is None
    return _of_class(annotation) if plain else TypeAdapter(annotation)


def remember_type_adapters() -> None:
    """In this process, from now on."""
    dspy.adapters.utils.TypeAdapter = _type_adapter
