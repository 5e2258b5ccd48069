"""A command's connection. Somebody waits for it: where nothing listens, that is said at once."""

from __future__ import annotations

from functools import partial

from .. import client
from .._connecting import open_bus

connect = partial(client.connect, patient=False)
connect_bus = partial(open_bus, patient=False)
