"""What can go wrong in retrieval, by what the caller can do."""

from __future__ import annotations

from dspex_bus.errors import InvalidRequest, NotFound, Unavailable


class FolderNotFound(NotFound):
    code = "folder_not_found"


class FolderEmpty(InvalidRequest):
    code = "folder_empty"


class FolderNotAllowed(InvalidRequest):
    """The folder lies outside of what the operator of the pool has opened."""

    code = "folder_not_allowed"
    status = 403


class DocumentUnreadable(InvalidRequest):
    code = "document_unreadable"


class SearchUnavailable(Unavailable):
    """A search service did not answer, or not with what its protocol promises."""

    code = "search_unavailable"


class SearchNotConfigured(InvalidRequest):
    code = "search_not_configured"
