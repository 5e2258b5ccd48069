"""What all tests share: searches for examples take as long as a busy machine makes them take."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("dspex", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile("dspex")
