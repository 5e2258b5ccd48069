"""Templates kept on the bus, by name and version."""

from .store import TemplateStore
from .types import StoredTemplate, TemplateVersion, UnknownTemplate

__all__ = ["StoredTemplate", "TemplateStore", "TemplateVersion", "UnknownTemplate"]
