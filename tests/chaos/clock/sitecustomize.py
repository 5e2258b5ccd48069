"""Python imports this at its start where this folder is on its path: the wall clock is then as far off as a file says,
and may jump while the process runs. Deadlines of event loops go by another clock, which never jumps."""

import os
import time

_file = os.environ["DSPEX_TEST_CLOCK"]
_time, _time_ns = time.time, time.time_ns


def _off() -> float:
    with open(_file) as told:
        return float(told.read() or 0)


time.time = lambda: _time() + _off()
time.time_ns = lambda: _time_ns() + int(_off() * 1e9)
