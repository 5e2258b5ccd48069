"""The plan compiler: a definition and what live workers offer, to a plan or to the first error in it. Pure."""

from .catalog import Catalog
from .compile import compile_pipeline
from .explain import Explained, explain, explain_step
from .lasting import least_ms
from .operations import OPERATIONS, Choice, choose
from .references import Reference, references
from .structure import check_structure, digest_of

__all__ = [
    "OPERATIONS",
    "Catalog",
    "Choice",
    "Explained",
    "Reference",
    "check_structure",
    "choose",
    "compile_pipeline",
    "digest_of",
    "explain",
    "explain_step",
    "least_ms",
    "references",
]
