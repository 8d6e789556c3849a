"""The driver's clock: the time of day when its session began, and the seconds since.

Somebody may set the clock of the machine while a study runs. Limits in seconds would then end it at once
or never, and runs end before they began. Seconds that the machine sleeps count.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def steady_clock(after: float = 0.0) -> Callable[[], float]:
    """A clock in seconds since the epoch, right when it is made, that neither jumps nor goes back.

    ``after``: the last time that is known of the study; where the machine's clock was set back since, it
    goes on from there, so that nothing ends before it began.
    """
    offset = max(time.time(), after) - _uptime()
    return lambda: offset + _uptime()


def _uptime() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere a sleep may not count
    return time.monotonic() if clock is None else time.clock_gettime(clock)
