"""Who runs are for: what each tenant may use, what it has used, and what calls in flight may add, on the bus.

Workers count: each adds what its own calls used to the tenant's one entry, several at a time, by compare-and-swap. In
the same entry a worker holds, for a time, what its calls in flight are expected to use of a limit.
"""

from .store import Standing, TenantStore
from .worker import Tenants

__all__ = ["Standing", "TenantStore", "Tenants"]
