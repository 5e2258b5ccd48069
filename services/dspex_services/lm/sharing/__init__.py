"""A model's limits over all processes that call it: a book on the bus from which each takes its share."""

from .book import Limits
from .clock import ServerClock
from .share import NoRoom, Share, Ticket

__all__ = ["Limits", "NoRoom", "ServerClock", "Share", "Ticket"]
