"""Strategies by name: ``"tpe"``, ``"gp+asha"``, ``"bohb"``, a dict or its JSON text, or an object.

A name is a sampler, a scheduler, a ready-made pair, or ``sampler+scheduler``. Classes are imported
when they are first asked for, so that ``import hpo_core`` stays light.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from hpo_core._errors import StrategyError, nearest
from hpo_core._strategy import Sampler, Scheduler, Strategy

SAMPLERS: dict[str, str] = {
    "auto": "hpo_core.samplers._auto:Auto",
    "cmaes": "hpo_core.samplers._cmaes:CMAES",
    "forest": "hpo_core.samplers._forest:Forest",
    "gp": "hpo_core.samplers._gp:GP",
    "grid": "hpo_core.samplers._grid:Grid",
    "halton": "hpo_core.samplers._qmc:Halton",
    "nsga2": "hpo_core.samplers._nsga2:NSGA2",
    "random": "hpo_core.samplers._random:Random",
    "sobol": "hpo_core.samplers._qmc:Sobol",
    "tpe": "hpo_core.samplers._tpe:TPE",
}

SCHEDULERS: dict[str, str] = {
    "asha": "hpo_core.schedulers._asha:ASHA",
    "asha_stopping": "hpo_core.schedulers._asha:ASHAStopping",
    "full": "hpo_core.schedulers._full:Full",
    "hyperband": "hpo_core.schedulers._hyperband:Hyperband",
    "levels": "hpo_core.schedulers._levels:Levels",
    "median": "hpo_core.schedulers._percentile:Median",
    "patience": "hpo_core.schedulers._patience:Patience",
    "pbt": "hpo_core.schedulers._pbt:PBT",
    "percentile": "hpo_core.schedulers._percentile:Percentile",
    "race": "hpo_core.schedulers._race:Race",
    "successive_halving": "hpo_core.schedulers._halving:SuccessiveHalving",
    "threshold": "hpo_core.schedulers._patience:Threshold",
    "wilcoxon": "hpo_core.schedulers._wilcoxon:Wilcoxon",
}

# Names that stand for a pair. A scheduler alone goes with `auto`, except where its paper says otherwise.
PAIRS: dict[str, tuple[str, str]] = {
    "bohb": ("tpe", "hyperband"),
    "multi_fidelity": ("auto", "levels"),
    "pbt": ("random", "pbt"),
}

# What an object must have to be one.
_VERB = {"sampler": "sample", "scheduler": "judge"}

DEFAULT_SAMPLER, DEFAULT_SCHEDULER = "auto", "full"


def strategy_names() -> list[str]:
    """Every name that stands for a whole strategy, sorted; ``a+b`` composes a sampler and a scheduler."""
    return sorted({*SAMPLERS, *SCHEDULERS, *PAIRS} - {DEFAULT_SCHEDULER, "levels"})


def make_strategy(given: str | Mapping[str, Any] | Strategy | Sampler | Scheduler) -> Strategy:
    """The strategy for a name, a dict, or an object.

    A dict is ``{"sampler": S, "scheduler": D}`` where each is a name or ``{"name": ..., option: ...}``;
    either may be left out. ``{"name": "gp+asha", option: ...}`` is short for it: each option goes to the one
    of the two that has it. A dict may also come as JSON text, which is all that a command line can say.
    Raises :class:`StrategyError` for unknown names and options, with the nearest known ones.
    """
    if isinstance(given, Strategy):
        return given
    if isinstance(given, type):
        raise StrategyError(f"a strategy is an object and not a class; make one: {given.__name__}()")
    if isinstance(given, str):
        if given.lstrip().startswith("{"):
            return make_strategy(_parsed(given))
        name = given.replace(" ", "")
        return _pair(*_split(name), name=name)
    if isinstance(given, Mapping):
        if "name" in given and not {"sampler", "scheduler"} & set(given):
            return _with_options(given["name"], {k: v for k, v in given.items() if k != "name"})
        return _of_parts(given)
    if hasattr(given, "sample"):
        return _of_objects(given, None)
    if hasattr(given, "judge"):
        return _of_objects(None, given)
    raise StrategyError(
        f"a strategy is a name ({', '.join(strategy_names())}), a dict or an object, got {given!r}"
    )


def _parsed(text: str) -> dict[str, Any]:
    """The dict that a strategy's JSON text says."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StrategyError(
            f"a strategy that begins with '{{' is JSON such as "
            f'{{"name": "asha", "eta": 2}}, and {text!r} is none ({error})'
        ) from None
    return dict(content)


def _of_parts(given: Mapping[str, Any]) -> Strategy:
    """The strategy of ``{"sampler": S, "scheduler": D}``; a ``name`` is what it is called."""
    unknown = sorted(map(str, set(given) - {"sampler", "scheduler", "name"}))
    if unknown:
        raise StrategyError(
            f"a strategy has 'sampler' and 'scheduler', or a 'name' with options, got {unknown[0]!r}"
            f"{nearest(unknown[0], ('sampler', 'scheduler', 'name'))}"
        )
    sampler = _plain(given.get("sampler", DEFAULT_SAMPLER), SAMPLERS, "sampler")
    scheduler = _plain(given.get("scheduler", DEFAULT_SCHEDULER), SCHEDULERS, "scheduler")
    name = given.get("name") or f"{_label(sampler)}+{_label(scheduler)}"
    if len({"sampler", "scheduler"} & set(given)) == 1 and name in {*SCHEDULERS, *PAIRS}:
        # Only called so, it would run every trial to its end under a scheduler's name.
        raise StrategyError(
            f"{name!r} is a strategy by itself, so it cannot be the name of another; give 'sampler' and "
            f"'scheduler', got {dict(given)!r}"
        )
    return _pair(sampler, scheduler, name=str(name))


def _with_options(called: Any, given: Mapping[Any, Any]) -> Strategy:
    """The strategy of ``{"name": ..., option: ...}``."""
    if not isinstance(called, str):
        raise StrategyError(f"the name of a strategy is text such as 'gp+asha', got {called!r}")
    name = called.replace(" ", "")
    parts = dict(zip(("sampler", "scheduler"), _split(name), strict=True))
    if not given:
        return _pair(*parts.values(), name=name)
    known = {
        what: _options_of(_class_of(part, named, what))
        for (what, part), named in zip(parts.items(), (SAMPLERS, SCHEDULERS), strict=True)
    }
    options: dict[str, dict[str, Any]] = {"sampler": {}, "scheduler": {}}
    for option, value in given.items():
        takers = [what for what, fields in known.items() if option in fields]
        if not takers:
            listed = "; ".join(
                f"{parts[what]}: {', '.join(fields) or 'none'}" for what, fields in known.items()
            )
            near = nearest(str(option), [f for fields in known.values() for f in fields])
            raise StrategyError(f"strategy {name!r} has no option {option!r}{near} ({listed})")
        if len(takers) > 1:
            raise StrategyError(
                f"both parts of strategy {name!r} have an option {option!r}; say whose it is: "
                f'{{"sampler": {{"name": "{parts["sampler"]}", ...}}, "scheduler": '
                f'{{"name": "{parts["scheduler"]}", ...}}}}'
            )
        options[takers[0]][option] = value
    described = [{"name": part, **options[what]} if options[what] else part for what, part in parts.items()]
    return _pair(*described, name=name)


def _split(name: str) -> tuple[str, str]:
    if name in PAIRS:
        return PAIRS[name]
    if name in SAMPLERS:
        return name, DEFAULT_SCHEDULER
    if name in SCHEDULERS:
        return DEFAULT_SAMPLER, name
    parts = name.split("+")
    samplers = [part for part in parts if part in SAMPLERS]
    schedulers = [part for part in parts if part in SCHEDULERS or part in PAIRS]
    if len(samplers) == len(schedulers) == 1 and parts == samplers + schedulers:
        return parts[0], PAIRS[parts[1]][1] if parts[1] in PAIRS else parts[1]
    raise StrategyError(_why_not(parts, samplers, schedulers))


def _why_not(parts: Sequence[str], samplers: Sequence[str], schedulers: Sequence[str]) -> str:
    """What is wrong with a name: a part that is unknown, or known ones that do not make a strategy."""
    for part in parts:
        if part not in (*samplers, *schedulers):
            known = strategy_names() if len(parts) == 1 else [*SAMPLERS, *SCHEDULERS]
            return (
                f"unknown strategy {part!r}{nearest(part, known)} (known: {', '.join(strategy_names())}; "
                "compose a sampler and a scheduler as 'gp+asha')"
            )
    name = "+".join(parts)
    if len(samplers) == len(schedulers) == 1:
        return f"the sampler comes first: write {f'{samplers[0]}+{schedulers[0]}'!r}, not {name!r}"
    kind, many = ("samplers", samplers) if len(samplers) > 1 else ("schedulers", schedulers)
    listed = ", ".join(map(repr, many[:-1]))
    return (
        f"a strategy has one sampler and at most one scheduler, as 'gp+asha'; of {name!r}, {listed} and "
        f"{many[-1]!r} are {'both' if len(many) == 2 else 'all'} {kind}"
    )


def _plain(part: Any, known: Mapping[str, str], what: str) -> Any:
    if isinstance(part, str) or (isinstance(part, Mapping) and "name" in part):
        return part
    if hasattr(part, _VERB[what]) and not isinstance(part, type):
        return _describe(part, known)
    raise StrategyError(
        f"a {what} is a name ({', '.join(sorted(known))}), a dict {{'name': ..., option: ...}} or an object, "
        f"got {part!r}"
    )


def _label(part: Any) -> str:
    return str(part["name"]) if isinstance(part, Mapping) else str(part)


def _pair(sampler: Any, scheduler: Any, *, name: str) -> Strategy:
    return Strategy(
        name=name,
        sampler=_build(sampler, SAMPLERS, "sampler"),
        scheduler=_build(scheduler, SCHEDULERS, "scheduler"),
        config={"name": name, "sampler": sampler, "scheduler": scheduler},
    )


def _of_objects(sampler: Any, scheduler: Any) -> Strategy:
    parts = {
        "sampler": _describe(sampler, SAMPLERS) if sampler is not None else DEFAULT_SAMPLER,
        "scheduler": _describe(scheduler, SCHEDULERS) if scheduler is not None else DEFAULT_SCHEDULER,
    }
    name = "+".join(_label(p) for p in parts.values())
    return Strategy(
        name=name,
        sampler=sampler or _build(DEFAULT_SAMPLER, SAMPLERS, "sampler"),
        scheduler=scheduler or _build(DEFAULT_SCHEDULER, SCHEDULERS, "scheduler"),
        config={"name": name, **parts},
    )


def compose(sampler: Sampler, scheduler: Scheduler) -> Strategy:
    """A strategy from two objects; their public fields are its JSON."""
    return _of_objects(sampler, scheduler)


def _describe(part: Any, known: Mapping[str, str]) -> dict[str, Any]:
    """``{"name": ..., option: ...}`` of an object: enough to build it again.

    An option that is a dataclass itself is described in the same way.
    """
    path = f"{type(part).__module__}:{type(part).__qualname__}"
    name = next((n for n, p in known.items() if p == path), path)
    options: dict[str, Any] = {}
    for field in dataclasses.fields(part) if dataclasses.is_dataclass(part) else ():
        value = getattr(part, field.name)
        if not field.init or not field.compare or _is_default(field, value):
            continue
        options[field.name] = _describe(value, {}) if dataclasses.is_dataclass(value) else value
        try:
            json.dumps(options[field.name], allow_nan=False)
        except (TypeError, ValueError):
            raise StrategyError(
                f"option {field.name!r} of {name!r} must be JSON, for the study to be resumed from its "
                f"journal; got {value!r}"
            ) from None
    return {"name": name, **options}


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return type(value) is type(field.default) and bool(value == field.default)


def _build(part: Any, known: Mapping[str, str], what: str) -> Any:
    options = dict(part) if isinstance(part, Mapping) else {"name": part}
    name = str(options.pop("name", ""))
    path = known.get(name, name if ":" in name else "")
    if not path:
        raise StrategyError(
            f"unknown {what} {name!r}{nearest(name, known)} (known: {', '.join(sorted(known))})"
        )
    cls = _class_of(name, {name: path}, what)
    fields = _options_of(cls)
    for option, value in options.items():
        if option not in fields:
            raise StrategyError(
                f"{what} {name!r} has no option {option!r}{nearest(option, fields)} (it has {fields})"
            )
        if isinstance(value, Mapping) and ":" in str(value.get("name", "")):
            options[option] = _build(value, {}, f"option {option} of {what}")
    try:
        return cls(**options)
    except (TypeError, ValueError) as error:
        raise StrategyError(f"{what} {name!r} with {options!r}: {error}") from None


def _class_of(name: str, known: Mapping[str, str], what: str) -> Any:
    module, _, attribute = known[name].partition(":")
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise StrategyError(
            f"{what} {name!r} cannot be imported ({error}); a class must be importable by its name for a "
            "study to be resumed, or be passed as an object again"
        ) from None


def _options_of(cls: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.init] if dataclasses.is_dataclass(cls) else []
