"""Conversations: what was asked and answered before, kept on the bus for any worker."""

from .conversation import HISTORY, Conversation
from .store import ThreadStore
from .types import Thread, ThreadSummary, Turn

__all__ = ["HISTORY", "Conversation", "Thread", "ThreadStore", "ThreadSummary", "Turn"]
