"""Templates kept on the bus, by name and version."""

from .store import TemplateStore
from .types import StoredTemplate, TemplateVersion

__all__ = [
    "StoredTemplate",
    "TemplateStore",
    "TemplateVersion",
]
