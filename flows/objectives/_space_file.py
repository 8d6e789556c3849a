"""Space files: YAML or JSON that narrows, extends or replaces an objective's default space.

    learning_rate: {low: 0.01, high: 0.1}          narrow: what is not named stays as it is
    num_leaves: {type: int, low: 8, high: 64, log: true, default: 31}
    boosting: [gbdt, dart]                         short for {choices: [gbdt, dart]}
    drop_rate: {low: 0.05, high: 0.3, when: {boosting: dart}}
    max_bin: 255                                   fixed
    min_data_in_leaf: null                         removed: the library's own default holds
    replace: true                                  start from an empty space
    constraints: ["num_leaves <= 2 ** max_depth"]

``type`` is float, int, categorical, normal, lognormal or constant; without it, it is taken from the
parameter's default or from what is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows._files import not_there
from hpo_core import Categorical, Constant, InputError, Parameter, SearchSpace, SpaceError
from hpo_core.inner import nearest, parameter_from_json

# Keys of a space file that are not parameters.
RESERVED = ("replace", "constraints")

# YAML 1.1 reads 1e-3 as text (it wants 1.0e-3). In a space file it can only be a number.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")

_FIELDS = (
    "type",
    "low",
    "high",
    "log",
    "step",
    "default",
    "choices",
    "ordered",
    "mu",
    "sigma",
    "value",
    "when",
)


def build_space(
    default: Mapping[str, Parameter],
    given: str | None,
    *,
    resolve: Callable[[str], str],
    check: Callable[[str, Parameter], None] = lambda name, parameter: None,
    check_space: Callable[[SearchSpace], None] = lambda space: None,
) -> SearchSpace:
    """The search space of an objective: its default, changed by a space file.

    ``given``: a path, or the same content as JSON or YAML text starting with ``{``; ``None`` for the default.
    ``resolve(name)``: the objective's own name for a parameter (aliases), or :class:`InputError`.
    ``check(name, parameter)``: raises :class:`InputError` for a domain that the library refuses;
    ``check_space(space)``: for parameters that do not go together.

    Raises :class:`InputError`, one line that names the file, the parameter and the remedy.
    """
    if given is None:
        space = SearchSpace(default)
        check_space(space)
        return space
    where, content = _read(given)
    try:
        space = _changed(dict(default), content, resolve, check)
        check_space(space)
        return space
    except InputError as error:
        raise SpaceError(f"{where}: {error}") from None


def read_space(given: str) -> SearchSpace:
    """The search space of a file (or of JSON text) that stands on its own: every parameter in full.

    Raises :class:`InputError`, one line that names the file, the parameter and the remedy.
    """
    return build_space({}, given, resolve=lambda name: name)


def _changed(
    parameters: dict[str, Parameter],
    content: Mapping[str, Any],
    resolve: Callable[[str], str],
    check: Callable[[str, Parameter], None],
) -> SearchSpace:
    replace = content.get("replace", False)
    if not isinstance(replace, bool):
        raise InputError(f"replace must be true or false, got {replace!r}")
    default = dict(parameters)
    if replace:
        parameters = {}
    seen: dict[str, str] = {}
    for written, entry in content.items():
        if written in RESERVED:
            continue
        name = resolve(written)
        if name in seen:
            raise InputError(f"parameter {written!r} is the same as {seen[name]!r}; keep one of them")
        seen[name] = written
        if entry is None:
            _remove(parameters, name, written, replaced=replace)
            continue
        parameters[name] = _parameter(written, entry, default.get(name), resolve)
        check(name, parameters[name])
    extra = content.get("constraints") or []
    if not isinstance(extra, list) or not all(isinstance(c, str) for c in extra):
        raise InputError(f"constraints must be a list of expressions such as 'a + b <= 1', got {extra!r}")
    if not parameters:
        raise InputError("the space is empty; name at least one parameter, or leave replace out")
    _check_parents(parameters)
    space = SearchSpace(parameters, extra)
    if not space.dims:
        raise InputError("every parameter is fixed, so there is nothing to tune; give one of them a range")
    return space


def _remove(parameters: dict[str, Parameter], name: str, written: str, *, replaced: bool) -> None:
    if name not in parameters and not replaced:
        raise InputError(
            f"parameter {written!r} is to be removed, but is not in the default space"
            f"{nearest(name, parameters)}; delete the line"
        )
    parameters.pop(name, None)


def _check_parents(parameters: Mapping[str, Parameter]) -> None:
    for name, parameter in parameters.items():
        for condition in parameter.conditions:
            if condition.parent not in parameters:
                raise InputError(
                    f"parameter {name!r} depends on {condition.parent!r}, which is not in the space; "
                    f"remove {name!r} too, or keep {condition.parent!r}"
                )


def _parameter(
    written: str, entry: Any, default: Parameter | None, resolve: Callable[[str], str]
) -> Parameter:
    """The parameter that one line of the file describes."""
    if isinstance(entry, list):
        entry = {"choices": entry}
    if not isinstance(entry, Mapping):
        return Constant(_number(entry))
    unknown = next((k for k in entry if k not in _FIELDS), None)
    if unknown is not None:
        raise InputError(
            f"parameter {written!r}: unknown field {unknown!r}{nearest(str(unknown), _FIELDS)} (fields: "
            f"{', '.join(_FIELDS)})"
        )
    data = {k: _number(v) for k, v in entry.items() if k != "when"}
    if "choices" in data:
        data["choices"] = _listed(written, data["choices"])
    data = _completed(written, data, default)
    if "when" in entry:
        data["when"] = _conditions(written, entry["when"], resolve)
    return parameter_from_json(written, data)


def _listed(written: str, choices: Any) -> list[Any]:
    if not isinstance(choices, list):
        raise InputError(f"parameter {written!r}: choices must be a list such as [a, b], got {choices!r}")
    return [_number(c) for c in choices]


def _completed(written: str, data: dict[str, Any], default: Parameter | None) -> dict[str, Any]:
    """``data`` with its type, and with what the default says where the file says nothing."""
    if "type" in data:
        return data
    if "value" in data:
        return {"type": "constant", **data}
    if "choices" in data:
        ordered = {"ordered": True} if isinstance(default, Categorical) and default.ordered else {}
        return {"type": "categorical", **ordered, **data}
    if default is None or isinstance(default, Categorical | Constant):
        return {"type": _guess(written, data), **data}
    base = default.to_json()
    base.pop("when", None)
    if "step" in data:
        base.pop("log", None)
    merged = {**base, **data}
    if "default" not in data and "default" in base and not _inside(base["default"], merged):
        # The narrowed range leaves the library's default out; the user did not ask for it.
        del merged["default"]
    if default.conditions:
        merged["when"] = [c.to_json() for c in default.conditions]
    return merged


def _inside(value: float, data: Mapping[str, Any]) -> bool:
    low, high = data.get("low"), data.get("high")
    try:
        return (low is None or value >= low) and (high is None or value <= high)
    except TypeError:  # a bound that is not a number is refused a moment later
        return True


def _guess(written: str, data: Mapping[str, Any]) -> str:
    if "mu" in data and "sigma" in data:
        return "normal"
    if "low" in data and "high" in data:
        whole = all(
            isinstance(data.get(k, 0), int) and not isinstance(data.get(k, 0), bool)
            for k in ("low", "high", "step")
        )
        return "int" if whole else "float"
    raise InputError(
        f"parameter {written!r} needs low and high, choices, or a type; got {dict(data)!r} and it has "
        "no default to narrow"
    )


def _conditions(written: str, when: Any, resolve: Callable[[str], str]) -> list[dict[str, Any]]:
    """``{parent: value}``, ``{parent: [values]}`` or ``{parent: {ge: .., le: ..}}`` as conditions.

    So is a list as :meth:`Parameter.to_json` writes it.
    """
    if isinstance(when, list) and all(isinstance(c, Mapping) and "parent" in c for c in when):
        return [{**c, "parent": resolve(str(c["parent"]))} for c in when]
    if not isinstance(when, Mapping) or not when:
        raise InputError(
            f"parameter {written!r}: when must look like {{boosting: dart}} or {{depth: {{ge: 3}}}}, got "
            f"{when!r}"
        )
    out = []
    for parent, condition in when.items():
        name = resolve(str(parent))
        if isinstance(condition, Mapping):
            bounds = {k: _number(v) for k, v in condition.items()}
            if not bounds or set(bounds) - {"ge", "le"}:
                raise InputError(f"parameter {written!r}: a range in when takes ge and le, got {condition!r}")
            out.append({"parent": name, **bounds})
        else:
            values = condition if isinstance(condition, list) else [condition]
            out.append({"parent": name, "values": [_number(v) for v in values]})
    return out


def _number(value: Any) -> Any:
    """The number that a text like ``1e-3`` means; anything else as it is."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    return value


def _read(given: str) -> tuple[str, Mapping[str, Any]]:
    """Where the space came from, for messages, and its content."""
    if given.lstrip().startswith("{"):
        try:
            return "space", _mapping("space", json.loads(given, object_pairs_hook=_each_once("space")))
        except json.JSONDecodeError:
            # As it is typed on a command line: {num_leaves: {low: 8}}.
            return "space", _mapping("space", _yaml("space", given))
    path = Path(given).expanduser()
    where = f"space file {given!r}"
    if path.is_dir():
        raise InputError(f"{where} is a folder; give the path of a YAML or JSON file")
    if not path.is_file():
        raise InputError(f"{where} {not_there(path)}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{where} is not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"{where} cannot be read ({error.strerror}); check who may read it") from None
    if path.suffix.lower() == ".json":
        try:
            return where, _mapping(where, json.loads(text, object_pairs_hook=_each_once(where)))
        except json.JSONDecodeError as error:
            raise InputError(f"{where}, line {error.lineno}: {error.msg}") from None
    return where, _mapping(where, _yaml(where, text))


def _yaml(where: str, text: str) -> Any:
    import yaml

    try:
        _refuse_duplicates(where, yaml.compose(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{where}{line}: {error.problem or 'not valid YAML'}") from None
    except RecursionError:
        raise InputError(f"{where} is nested too deeply") from None
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not valid YAML: {str(error).splitlines()[0]}") from None


def _each_once(where: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """A dict of pairs whose keys are each there once: JSON, too, keeps the last of two equal ones."""

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{where}: {twice!r} is there twice; keep one")
        return content

    return made


def _refuse_duplicates(where: str, node: Any) -> None:
    """YAML keeps the last of two equal keys without a word."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _refuse_duplicates(where, each)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        line = f"{where}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(f"{line}: a name must be text, got a list or a mapping")
        if key.value in seen:
            raise InputError(f"{line}: {key.value!r} is there twice; keep one")
        seen.add(key.value)
        _refuse_duplicates(where, value)


def _mapping(where: str, content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping) or not content:
        raise InputError(
            f"{where} must hold lines such as 'learning_rate: {{low: 0.01, high: 0.1}}', got {content!r}"
        )
    wrong = next((k for k in content if not isinstance(k, str)), None)
    if wrong is not None:
        raise InputError(f"{where}: a parameter's name must be text, got {wrong!r}; quote it")
    return content
