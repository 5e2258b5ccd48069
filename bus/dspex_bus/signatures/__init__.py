"""Signatures: what an LM step reads and writes, as text, as types and as JSON Schema. Pure: no I/O, no DSPy."""

from .annotations import annotation
from .errors import InvalidFields, SignatureError
from .schema import json_schema
from .signature import REASONING, Field, Signature, parse_signature
from .types import Type
from .values import Coercer, Mismatch, coercer

__all__ = [
    "REASONING",
    "Coercer",
    "Field",
    "InvalidFields",
    "Mismatch",
    "Signature",
    "SignatureError",
    "Type",
    "annotation",
    "coercer",
    "json_schema",
    "parse_signature",
]
