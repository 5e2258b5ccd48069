"""The step ``template``: text filled in, from a template in the request, in a file, or in the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dspex_bus.errors import InvalidRequest

from ..handlers import Handlers, Step

if TYPE_CHECKING:
    from .template import Template
    from .template_store import StoredTemplates

INLINE = "template"
FILE = "template_file"
STORED = "template_name"
_WAYS = (INLINE, FILE, STORED)


class Rendered(msgspec.Struct, frozen=True):
    text: str


def templates() -> Handlers:
    handlers = Handlers()
    stored: StoredTemplates | None = None

    @handlers.handler("template", pure=True)
    async def template(values: dict[str, Any], step: Step) -> Rendered:
        """Render a template (``template``, ``template_file`` or ``template_name``) with the context, as ``text``."""
        fields = dict(values)
        way = _way(step.options) or _way(fields)
        if way is None:
            raise InvalidRequest(f"template needs one of the constants {', '.join(_WAYS)}", code="invalid_input")
        wanted = fields.pop(way)
        if not isinstance(wanted, str):
            raise InvalidRequest(f"template: the constant {way!r} must be a text", code="invalid_input")
        compiled = await _found(way, wanted, step)
        return Rendered(await step.in_thread(lambda: compiled.render(fields)))

    async def _found(way: str, wanted: str, step: Step) -> Template:
        nonlocal stored
        if way != STORED:
            return await step.in_thread(lambda: _read(way, wanted))
        if stored is None:
            stored = await step.in_thread(_store)
        return await stored.get(step.bus, wanted)

    return handlers


# Jinja2 is imported at first use, in a thread: a worker starts sooner by a tenth.


def _read(way: str, wanted: str) -> Template:
    from .template import compile_template
    from .template_files import template_file

    return template_file(wanted) if way == FILE else compile_template(wanted)


def _store() -> StoredTemplates:
    from .template_store import StoredTemplates

    return StoredTemplates()


def _way(given: dict[str, Any]) -> str | None:
    """Which of the three is given, None where none is."""
    found = [way for way in _WAYS if way in given]
    if len(found) > 1:
        raise InvalidRequest(f"template takes one of {', '.join(found)}, not several", code="invalid_input")
    return found[0] if found else None
