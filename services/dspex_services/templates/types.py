"""What the registry keeps of a template."""

from __future__ import annotations

import msgspec


class TemplateVersion(msgspec.Struct, frozen=True, kw_only=True):
    """``digest`` is that of the source. ``variables`` are the names it reads."""

    version: int
    digest: str
    created_ms: int
    size: int
    variables: tuple[str, ...] = ()
    note: str = ""


class StoredTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """``versions`` are the oldest first; there is at least one. ``made`` is how many there have been: the number of a
    deleted one is not used again."""

    name: str
    versions: tuple[TemplateVersion, ...]
    made: int

    @property
    def newest(self) -> TemplateVersion:
        return self.versions[-1]
