"""Signatures to messages and replies to values, byte for byte as DSPy's adapters do it, without DSPy."""

from .chat import chat_messages, chat_request, parse_chat_reply
from .json import json_messages, json_request, parse_json_reply
from .structured import SCHEMA_NAME, response_schema

__all__ = [
    "SCHEMA_NAME",
    "chat_messages",
    "chat_request",
    "json_messages",
    "json_request",
    "parse_chat_reply",
    "parse_json_reply",
    "response_schema",
]
