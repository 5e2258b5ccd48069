"""Retrieval: passages from folders of documents, from documents given, and from search services."""

from .passages import Passage, Passages

__all__ = ["Passage", "Passages"]
