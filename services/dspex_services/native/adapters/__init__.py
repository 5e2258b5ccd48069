"""Signatures to messages and replies to values, byte for byte as DSPy's adapters do it, without DSPy."""

from .chat import chat_messages, parse_chat_reply
from .json import json_messages, parse_json_reply

__all__ = ["chat_messages", "json_messages", "parse_chat_reply", "parse_json_reply"]
