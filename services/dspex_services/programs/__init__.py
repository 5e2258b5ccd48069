"""Programs: what an optimizer or a person made of a module, on the bus by name and version. Imports no DSPy."""

from .diff import Change, diff
from .states import from_file, to_file
from .store import ProgramStore, digest_of, reference
from .types import Origin, Program, ProgramVersion, Promotion

__all__ = [
    "Change",
    "Origin",
    "Program",
    "ProgramStore",
    "ProgramVersion",
    "Promotion",
    "diff",
    "digest_of",
    "from_file",
    "reference",
    "to_file",
]
