"""Names of a package that are imported at first use: who does not use them does not wait for them (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, imports: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for ``package``. ``imports`` has the modules with what to import of them:
    ``{".client": "Client, connect as dial"}``. Define them where type checkers do not look, and import the same where
    only they do: a ``__getattr__`` that they see hides what is misspelt."""
    places: dict[str, tuple[str, str]] = {}
    for module, listed in imports.items():
        for one in listed.split(","):
            name, _, alias = one.strip().partition(" as ")
            places[alias or name] = module, name

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, there = places[name]
        found = getattr(importlib.import_module(module, package), there)
        setattr(sys.modules[package], name, found)
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return find, names
