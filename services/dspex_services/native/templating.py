"""The step ``template``: text filled in, from a template in the request, in a file, or in the registry."""

from __future__ import annotations

from typing import Any

from dspex_bus.errors import InvalidRequest

from ..handlers import Handlers, Step
from .template import Template, compile_template
from .template_files import template_file
from .template_store import StoredTemplates

INLINE = "template"
FILE = "template_file"
STORED = "template_name"
_WAYS = (INLINE, FILE, STORED)


def templates() -> Handlers:
    handlers = Handlers()
    stored = StoredTemplates()

    @handlers.handler("template", pure=True)
    async def template(values: dict[str, Any], step: Step) -> dict[str, str]:
        """Render a template (``template``, ``template_file`` or ``template_name``) with the context, as ``text``."""
        fields = dict(values)
        way = _way(step.options) or _way(fields)
        if way is None:
            raise InvalidRequest(f"template needs one of the constants {', '.join(_WAYS)}", code="invalid_input")
        wanted = fields.pop(way)
        if not isinstance(wanted, str):
            raise InvalidRequest(f"template: the constant {way!r} must be a text", code="invalid_input")
        compiled = await _found(way, wanted, step)
        return {"text": await step.in_thread(lambda: compiled.render(fields))}

    async def _found(way: str, wanted: str, step: Step) -> Template:
        if way == STORED:
            return await stored.get(step.bus, wanted)
        return await step.in_thread(lambda: (template_file if way == FILE else compile_template)(wanted))

    return handlers


def _way(given: dict[str, Any]) -> str | None:
    """Which of the three is given, None where none is."""
    found = [way for way in _WAYS if way in given]
    if len(found) > 1:
        raise InvalidRequest(f"template takes one of {', '.join(found)}, not several", code="invalid_input")
    return found[0] if found else None
