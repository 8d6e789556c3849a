"""What can go wrong between the projector and MLflow, split by what the projector does about it.

TrackingError(HpoError)   MLflow is not to be had now; the message says what was tried
└── NoRunYet              nor is the run that was asked for; a TimeoutError as well
"""

from __future__ import annotations

from hpo_core import HpoError

# MLflow answers with these for good: the same request will be refused again.
_PERMANENT = frozenset(
    {
        "BAD_REQUEST",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "NOT_IMPLEMENTED",
        "PERMISSION_DENIED",
        "RESOURCE_DOES_NOT_EXIST",
    }
)
# MLflow's server wraps trouble with its own database as a bad request.
_PASSING = ("QueuePool limit", "database is locked", "disk I/O error", "database or disk is full")


class TrackingError(HpoError):
    """MLflow cannot be reached, or what was asked of it is not there yet."""


class NoRunYet(TrackingError, TimeoutError):
    """The trial's run could not be made in time."""


def is_permanent(error: Exception) -> bool:
    """Whether repeating the request is pointless: MLflow understood it and said no."""
    code = getattr(error, "error_code", None)
    return code in _PERMANENT and not any(text in str(error) for text in _PASSING)


def brief(error: BaseException, limit: int = 200) -> str:
    """The error as one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
