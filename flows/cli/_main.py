"""``hpo``: the commands put together, and what their errors look like: one line and an exit code.

0    done
1    the study ended without one complete trial, or something broke
2    the input is wrong; the line says what to do
3    another driver holds the study
130  interrupted
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from flows.cli import _studies, _tune, _up
from hpo_core import HpoError, InputError, StudyLockedError

# typer brings its own copy of click; this is that copy's UsageError, the base of every wrong call.
_UsageError = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="hpo",
    help="Hyperparameter optimisation on MLflow and Prefect.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("tune")(_tune.tune)
app.command("up")(_up.up)
_studies.register(app)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; never lets a traceback out for the user's mistakes."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    arguments = arguments or ["--help"]
    try:
        code = app(args=arguments, standalone_mode=False)
        return int(code or 0)
    except _UsageError as error:
        return _complain(str(getattr(error, "message", error)), 2)
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _complain("interrupted", 130)
    except StudyLockedError as error:
        return _complain(str(error), 3)
    except InputError as error:
        return _complain(str(error), 2)
    except HpoError as error:
        return _complain(str(error), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _complain(message: str, code: int) -> int:
    typer.echo("hpo: " + " ".join(message.split()), err=True)
    return code
