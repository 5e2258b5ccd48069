"""Native steps: what DSPy's predictors do, in our own Python, without importing DSPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex_bus.lazily import lazily

if TYPE_CHECKING:
    from ..handlers import Handlers
    from .adapters import chat_messages, json_messages, parse_chat_reply, parse_json_reply
    from .errors import ReplyError, TemplateError, TemplateFailed, UnsupportedNatively
    from .template import Template, compile_template

    handlers: Handlers
else:
    # ``dspex_services.native:handlers`` is what a worker imports; prompts and parsers alone cost no more than
    # themselves.
    _find, __dir__ = lazily(
        __name__,
        {
            ".adapters": "chat_messages, json_messages, parse_chat_reply, parse_json_reply",
            ".errors": "ReplyError, TemplateError, TemplateFailed, UnsupportedNatively",
            ".template": "Template, compile_template",
        },
    )

    def __getattr__(name):
        if name != "handlers":
            return _find(name)
        from .pool import native_handlers

        return native_handlers()


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
