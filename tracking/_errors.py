"""What can go wrong between the projector and MLflow, split by what the projector does about it.

Away(InputError)          the tracking server does not answer at the start; it may, a moment later
└── Denied                it answers, and does not let us in, or not write there
TrackingError(HpoError)   MLflow is not to be had now; the message says what was tried
└── NoRunYet              nor is the run that was asked for; a TimeoutError as well
NotComparable(HpoError)   the model that holds an alias cannot be measured as its challenger was, and why
"""

from __future__ import annotations

import errno

from hpo_core import HpoError, InputError
from tracking._text import redacted

# MLflow answers with these for good: the same request will be refused again. Not so a request without
# permission: tokens expire, and are renewed.
_PERMANENT = frozenset(
    {
        "BAD_REQUEST",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "NOT_IMPLEMENTED",
        "RESOURCE_DOES_NOT_EXIST",
    }
)
_PASSING = (
    # MLflow's server wraps trouble with its own database as a bad request.
    *("QueuePool limit", "database is locked", "disk I/O error", "database or disk is full"),
    # Nor are these about what was sent, as SQLAlchemy marks them: a database that takes no writes for a
    # while (a standby, a full disk at some hosts), a connection that was cut, a role without a right.
    *("/2j85)", "/rvf5)", "/4xp6)", "permission denied for"),
    # Not MLflow answered but something before it, or in its place while it restarts.
    "API request to",
)
# MLflow, or what stands before it, wants to know who asks, or has decided that they may not.
_FORBIDDEN = "PERMISSION_DENIED"
_DENIED = frozenset({"CUSTOMER_UNAUTHORIZED", _FORBIDDEN, "UNAUTHENTICATED"})
# What the disk of this machine refuses for good.
_LOCAL = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR})


class Away(InputError):
    """The tracking server does not answer. The request may be fine, and can be repeated."""


class Denied(Away):
    """The tracking server is there, and who asks may not do it, yet."""


class TrackingError(HpoError):
    """MLflow cannot be reached, or what was asked of it is not there yet."""


class NoRunYet(TrackingError, TimeoutError):
    """The trial's run could not be made in time."""


class NotComparable(HpoError):
    """Why a registered model cannot be measured on a candidate's data; it keeps its alias then."""


def is_permanent(error: Exception) -> bool:
    """Whether repeating the request is pointless: MLflow understood it and said no."""
    if isinstance(error, OSError):
        return error.errno in _LOCAL
    code = getattr(error, "error_code", None)
    return code in _PERMANENT and not any(text in str(error) for text in _PASSING)


def is_denied(error: Exception) -> bool:
    """Whether the tracking server is there, and does not let us in: 401 and 403."""
    return getattr(error, "error_code", None) in _DENIED


def is_forbidden(error: Exception) -> bool:
    """Whether it knows who asks, who may not do that: 403."""
    return getattr(error, "error_code", None) == _FORBIDDEN


def brief(error: BaseException) -> str:
    """The error as one line of at most 200 characters, without passwords: MLflow's name the address.

    A long one loses its middle: it begins with what was tried and ends with what went wrong.
    """
    text = redacted(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:110]} ... {text[-85:]}"
