"""The lease on a study's run: who drives it, for drivers on other machines to see.

On one machine the journal's lock keeps drivers apart. Between machines there is only MLflow, which has
no compare-and-set, so this is a promise and not a lock: the driver renews a tag, a newcomer waits until
it has run out, by the tracking server's clock (:mod:`tracking._server_clock`), and whoever finds the tag in
the hands of a driver that its journal does not know stops. So a driver that leaves lets its lease run out and
keeps the tag: without it, nobody could tell an outdated copy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hpo_core import InputError
from tracking._errors import TrackingError

TAG = "hpo.lease"
SECONDS, RENEWED_AFTER = 180.0, 60.0


class Fenced(TrackingError, InputError):
    """Another driver has gone on with the study; this one's journal is no longer the study's."""


@dataclass(frozen=True, slots=True)
class Lease:
    """``token`` and ``holder`` as the journal has them; ``until``: seconds since the epoch, there."""

    token: int
    holder: str
    until: float

    def to_tag(self) -> str:
        """``3 1795232111 host:4711``."""
        return f"{self.token} {self.until:.0f} {self.holder}"

    def given_back(self) -> Lease:
        """What its holder leaves: a newcomer need not wait, and an outdated copy is still found out."""
        return replace(self, until=0.0)

    @classmethod
    def of(cls, tag: str | None) -> Lease | None:
        """The lease of a run's tag; ``None`` where there is none."""
        try:
            token, until, holder = (tag or "").split(" ", 2)
            return cls(int(token), holder, float(until))
        except ValueError:
            return None


def check_ours(lease: Lease | None, drivers: dict[int, str]) -> None:
    """Raise :class:`Fenced` when the lease's holder is none of the journal's ``drivers`` (by token)."""
    if lease is not None and drivers.get(lease.token) != lease.holder:
        raise Fenced(
            f"driver {lease.holder} has gone on with this study from its copy in MLflow; what is here is an "
            "older version of it. Stop here; to go on on this machine, delete the study's folder when that "
            "driver has ended, and run `hpo resume`"
        )
