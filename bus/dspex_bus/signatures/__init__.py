"""Signatures: what an LM step reads and writes, as text, as types and as JSON Schema. Pure: no I/O, no DSPy."""

from .annotations import annotation
from .errors import InvalidFields, SignatureError
from .forms import Input, Output, from_class, from_json_schema, read_signature, signature_of, to_data
from .json_types import type_from_schema
from .limits import limits_text
from .parser import parse_type
from .reading import type_of
from .schema import json_schema
from .signature import REASONING, Signature, made_of, parse_signature, parse_with
from .types import Field, Type
from .values import Coercer, Mismatch, coercer

__all__ = [
    "REASONING",
    "Coercer",
    "Field",
    "Input",
    "InvalidFields",
    "Mismatch",
    "Output",
    "Signature",
    "SignatureError",
    "Type",
    "annotation",
    "coercer",
    "from_class",
    "from_json_schema",
    "json_schema",
    "limits_text",
    "made_of",
    "parse_signature",
    "parse_type",
    "parse_with",
    "read_signature",
    "signature_of",
    "to_data",
    "type_from_schema",
    "type_of",
]
