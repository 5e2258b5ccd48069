"""Retrieval: passages from folders of documents and from search services."""

from .documents import Passage, Passages

__all__ = ["Passage", "Passages"]
