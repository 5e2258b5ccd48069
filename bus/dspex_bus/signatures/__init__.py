"""Signatures: what an LM step reads and writes, as text, as types and as JSON Schema. Pure: no I/O, no DSPy."""

from typing import TYPE_CHECKING

from ..lazily import lazily

if TYPE_CHECKING:
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
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".annotations": "annotation",
            ".errors": "InvalidFields, SignatureError",
            ".forms": "Input, Output, from_class, from_json_schema, read_signature, signature_of, to_data",
            ".json_types": "type_from_schema",
            ".limits": "limits_text",
            ".parser": "parse_type",
            ".reading": "type_of",
            ".schema": "json_schema",
            ".signature": "REASONING, Signature, made_of, parse_signature, parse_with",
            ".types": "Field, Type",
            ".values": "Coercer, Mismatch, coercer",
        },
    )

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
