"""A program as the registry keeps it: its versions, and the names they go by."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field


class Origin(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a version comes from. ``module`` is DSPy's name of a module or an import path; ``signature`` and
    ``instructions`` what it was made with, ``options`` its further arguments. ``scores`` are percentages by data set;
    ``parent`` is the digest it was made from, ``job`` the session that made it."""

    module: str = ""
    signature: str | None = None
    instructions: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    dspy_version: str = ""
    optimizer: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    metric: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    trainset: str = ""
    parent: str = ""
    job: str = ""
    note: str = ""

    @property
    def inner(self) -> Origin | None:
        """Of a program that is made of other ones, the first of these: it is asked the same."""
        members = self.options.get("members") or [self.options.get("inner")]
        return msgspec.convert(members[0], Origin) if members[0] else None

    @property
    def asked(self) -> str | None:
        """The signature of what it is asked, where it is known."""
        inner = self.inner
        return self.signature if inner is None else inner.asked


class ProgramVersion(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``digest`` names the state's content: ``sha256:`` and 64 hexadecimal digits."""

    version: int
    digest: str
    created_ms: int
    size: int = 0
    origin: Origin = Origin()


class Promotion(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``tag`` was made to mean ``version``; ``undone`` by a rollback since."""

    tag: str
    version: int
    at_ms: int
    undone: bool = False


class Program(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``tags`` are the versions that names such as ``production`` mean now, ``promotions`` what they meant before."""

    name: str
    versions: tuple[ProgramVersion, ...] = ()
    tags: dict[str, int] = field(default_factory=dict)
    promotions: tuple[Promotion, ...] = ()

    @property
    def newest(self) -> ProgramVersion:
        return self.versions[-1]
