"""Native steps: what DSPy's predictors do, in our own Python, without importing DSPy."""

from .adapters import chat_messages, json_messages, parse_chat_reply, parse_json_reply
from .errors import ReplyError, TemplateError, TemplateFailed, UnsupportedNatively
from .template import Template, compile_template

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
