"""``hpo``: the commands put together, and what their errors look like: one line and an exit code.

0    done
1    the study ended without one complete trial, a gate said no, or something broke
2    the input is wrong, a journal that cannot be read included; the line says what to do
3    another driver holds the study
130  interrupted

Commands import what they need when they are called, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import typer

from flows._signals import silence
from flows._streams import write_anything
from flows.cli import _commands, _report, _tune

# Newer versions of typer bring their own copy of click; this is the UsageError of whichever is in use,
# the base of every wrong call.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

# Options of `hpo tune` without a value.
_FLAGS = ("--deterministic", "--edit-space", "--offline", "--dry-run", "--json")

app = typer.Typer(
    name="hpo",
    help="Hyperparameter optimisation on MLflow and Prefect.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("tune")(_tune.tune)
_commands.register(app)
app.command("report")(_report.report)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Show the version and exit")) -> None:
    if version:
        from importlib import metadata

        try:
            typer.echo(f"mlflow-hpo {metadata.version('mlflow-hpo')}")
        except metadata.PackageNotFoundError:
            typer.echo("mlflow-hpo, from its sources")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; never lets a traceback out for the user's mistakes."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if argv is None and not sys.warnoptions:
        # Libraries warn their developers; python -W shows what they say.
        warnings.simplefilter("ignore")
    if argv is None:
        write_anything()
        if (unread := _unread(arguments)) is not None:
            return _complain(unread, 2)
        # What a million objects leave goes with the process: looking for it at exit took a second and more.
        atexit.register(gc.freeze)
    try:
        return int(app(args=_as_typed(arguments), prog_name="hpo", standalone_mode=False) or 0)
    except _UsageError as error:
        return _complain(_usage(error), 2)
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _complain("interrupted", 130)
    except BrokenPipeError:
        # The reader of a pipe left; nothing more can be said, and what is buffered must not fail at exit.
        silence(sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno == errno.ENOENT and _is_nowhere():
            return _complain("the folder that this runs in was deleted; change into one that is there", 2)
        if isinstance(error, PermissionError) and error.filename is not None:
            said = f"{str(error.filename)!r}: {error.strerror}; check who may read and write there"
            return _complain(said, 2)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        silence(sys.stdout.fileno())
        return _complain(f"nothing more can be written: {error}; make room, and try again", 1)
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        return _complain(str(error), code)


def _as_typed(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``tune`` as one types them.

    An MLflow project hands on each parameter with a value, and a name with underscores is Python's.
    """
    if not arguments or arguments[0] != "tune":
        return list(arguments)
    typed: list[str] = []
    for argument in arguments:
        if argument in ("true", "false") and typed[-1] in _FLAGS:
            if argument == "false":
                typed.pop()
            continue
        name, equals, value = argument.partition("=")
        typed.append((name.replace("_", "-") if name.startswith("--") else name) + equals + value)
    return typed


def _unread(arguments: Sequence[str]) -> str | None:
    """What to do about an argument or a folder that Python could not read in the encoding it was told of.

    It keeps the bytes as signs that no name of a study can have, and no journal or address hold.
    """
    encoding = sys.getfilesystemencoding()
    given = [*arguments, os.environ.get("HPO_HOME", ""), *([] if _is_nowhere() else [str(Path.cwd())])]
    strange = next((text for text in given if any(map(_is_a_byte, text))), None)
    if strange is None:
        return None
    text = os.fsencode(strange).decode(errors="replace")
    remedy = "set PYTHONUTF8=1, or a UTF-8 locale such as LC_ALL=C.UTF-8"
    if encoding == "utf-8":
        remedy = "give it a name in UTF-8"
    return (
        f"{text!r} cannot be read as {encoding}, which Python takes arguments and names of folders here for; "
        f"{remedy}, and try again"
    )


def _is_a_byte(sign: str) -> bool:
    return "\udc80" <= sign <= "\udcff"


def _is_nowhere() -> bool:
    """Whether the working folder is gone; a shell goes on in it."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _usage(error: Exception) -> str:
    """What is wrong with the call, and where to read more."""
    said = getattr(error, "format_message", error.__str__)()
    command = getattr(getattr(error, "ctx", None), "command_path", "hpo")
    return f"{str(said).strip().rstrip('.')}; see {command} --help"


def _exit_code(error: Exception) -> int | None:
    """``None`` for what is no error of this project."""
    from hpo_core import HpoError, InputError, JournalError, StudyLockedError
    from hpo_core.inner import JournalWriteError

    codes = (
        (StudyLockedError, 3), (JournalWriteError, 1), (JournalError, 2), (InputError, 2), (HpoError, 1),
    )  # fmt: skip
    for kind, code in codes:
        if isinstance(error, kind):
            return code
    return None


def _complain(message: str, code: int) -> int:
    typer.echo("hpo: " + " ".join(message.split()), err=True)
    return code
