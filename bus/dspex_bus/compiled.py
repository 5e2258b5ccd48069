"""Whether this is a compiled build (``docs/decisions/0029-compiled.md``)."""

from __future__ import annotations

from importlib.util import find_spec


def compiled() -> bool:
    """Whether the modules that every step passes through are C extensions here."""
    spec = find_spec("dspex_bus.subjects")
    return spec is not None and not str(spec.origin).endswith(".py")
