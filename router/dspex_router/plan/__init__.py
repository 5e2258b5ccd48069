"""The plan compiler: a definition and what live workers offer, to a plan or to every error in it. Pure."""

from .catalog import Catalog
from .compile import compile_pipeline
from .operations import Choice, choose

__all__ = ["Catalog", "Choice", "choose", "compile_pipeline"]
