"""Native steps: what DSPy's predictors do, in our own Python, without importing DSPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .adapters import chat_messages, json_messages, parse_chat_reply, parse_json_reply
from .errors import ReplyError, TemplateError, TemplateFailed, UnsupportedNatively
from .template import Template, compile_template

if TYPE_CHECKING:
    from ..handlers import Handlers

    handlers: Handlers

__all__ = [
    "ReplyError",
    "Template",
    "TemplateError",
    "TemplateFailed",
    "UnsupportedNatively",
    "chat_messages",
    "compile_template",
    "json_messages",
    "parse_chat_reply",
    "parse_json_reply",
]


def __getattr__(name: str) -> Handlers:
    # ``dspex_services.native:handlers`` is what a worker imports; prompts and parsers alone cost no more than
    # themselves.
    if name == "handlers":
        from .pool import native_handlers

        return native_handlers()
    raise AttributeError(name)
