"""What a fork made its torch optimizers and schedulers with, over what its checkpoint has of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["keep_own", "made_with"]

# What a scheduler that is made of others calls them, and the rates that it says it has set last.
_PARTS, _LAST = "_schedulers", "_last_lr"


def made_with(thing: Any) -> Any:
    """What an optimizer or a scheduler was made with, asked for before a checkpoint is loaded into it.

    Of an optimizer the settings of its groups, of a scheduler its state; of anything else nothing.
    """
    if _is_scheduler(thing):
        return _settings(thing.state_dict())
    groups = getattr(thing, "param_groups", ())
    return [{k: v for k, v in group.items() if isinstance(v, bool | int | float | tuple)} for group in groups]


def keep_own(things: Iterable[tuple[Any, Any, Any]]) -> None:
    """Set again what these were made with and the saved ones were not: ``(thing, own, theirs)`` each.

    What was the same goes on from where training had taken it. A rate that differs is as far along its
    schedule as the saved one was: what training with it from the beginning would have come to.
    """
    known = list(things)
    for thing, own, theirs in known:
        for group, mine, saved in zip(getattr(thing, "param_groups", ()), own, theirs, strict=False):
            changed = {k: v for k, v in mine.items() if k in saved and saved[k] != v}
            group.update(changed | _rate(group, mine, saved))
    for thing, own, theirs in known:
        if _is_scheduler(thing) and own != theirs:
            rates = [group["lr"] for group in thing.optimizer.param_groups]
            thing.load_state_dict({**_merged(thing.state_dict(), own, theirs), _LAST: rates})


def _is_scheduler(thing: Any) -> bool:
    from torch.optim.lr_scheduler import LRScheduler

    return isinstance(thing, LRScheduler)


def _rate(group: Mapping[str, Any], mine: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, float]:
    """The group's rate, in proportion to those that both were made with; schedulers keep these apart."""
    name = "initial_lr" if "initial_lr" in mine and "initial_lr" in saved else "lr"
    if name not in mine or name not in saved or not saved[name]:
        return {}
    same = mine[name] == saved[name]
    return {"lr": group["lr"] if same else mine[name] * (group["lr"] / saved[name])}


def _settings(state: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a scheduler's state that are plain data, those of its parts included."""
    plain = {k: v for k, v in state.items() if k not in (_PARTS, _LAST) and _is_plain(v)}
    return plain | ({_PARTS: [_settings(part) for part in state[_PARTS]]} if _PARTS in state else {})


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _merged(state: Mapping[str, Any], own: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The saved ``state`` with what its own scheduler was made with where that differs."""
    changed = {k: v for k, v in own.items() if k != _PARTS and k in theirs and theirs[k] != v}
    if _PARTS in own and _PARTS in theirs:
        parts = zip(state[_PARTS], own[_PARTS], theirs[_PARTS], strict=True)
        changed[_PARTS] = [_merged(*part) for part in parts]
    return {**state, **changed}
