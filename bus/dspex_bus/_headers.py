"""The names of the NATS headers that both buses understand."""

EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
TTL = "Nats-TTL"
ROLLUP = "Nats-Rollup"
SCHEDULE = "Nats-Schedule"
SCHEDULE_TARGET = "Nats-Schedule-Target"
RESENT = "Dspex-Resent"
"""Ours, on what may have been stored before, and taken away since."""

SENT = "Dspex-Sent"
"""Ours, on a task: when a router sent it, milliseconds since the epoch by the server's clock."""

SERVICE_ERROR = "Nats-Service-Error"
SERVICE_ERROR_CODE = "Nats-Service-Error-Code"
