"""How long a study has been worked on."""

from __future__ import annotations

from hpo_core import _events as ev


class WorkingTime:
    """A fold over all events of a study: ``seconds`` in which a driver had it, time of the ``last`` one.

    The time between two drivers, or after the end, is nobody's; a clock that is set back counts as none, and
    an event without a time (0) as none has passed.
    """

    def __init__(self, began: float) -> None:
        self.seconds = 0.0
        self.last = began

    def heard(self, event: ev.Event, *, stopped: bool) -> None:
        """Count the time up to ``event``; ``stopped``: the study had ended before it."""
        driven = not stopped and not isinstance(event, ev.DriverTookOver)
        if driven and event.at > self.last > 0.0:
            self.seconds += event.at - self.last
        if event.at:
            self.last = event.at

    def until(self, now: float) -> float:
        """The seconds, if the study is being driven until ``now``."""
        return self.seconds + (now - self.last if now > self.last > 0.0 else 0.0)
