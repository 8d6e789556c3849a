"""Checkpoints: folders below the study's, each written whole or not at all.

A folder holds ``checkpoint.json`` (its kind, and the size of each file, by which a half-written one is
found out) beside the data. What can be saved, and what comes back:

| saved                                           | file               | loaded                        |
|-------------------------------------------------|--------------------|-------------------------------|
| bytes                                           | ``data.bin``       | bytes                         |
| path of a file                                  | the file           | its path                      |
| path of a folder                                | ``files/``         | its path                      |
| numbers, texts, lists, dicts, numpy arrays      | ``tree.json, .npz``| the same (tuples as lists)    |
| a torch state (anything with tensors), a module | ``state.pt``       | the state, on the CPU         |
| a LightGBM or XGBoost booster, an XGBoost model | ``model.txt, .ubj``| the same                      |
| anything else, such as a scikit-learn model     | ``object.pkl``     | the same; from this study only|
"""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpo_core import HpoError, InputError

META = "checkpoint.json"
_ARRAY = "__array__"


class CheckpointError(HpoError):
    """A checkpoint that is not there, or not whole; the message says where it should be."""


def save_checkpoint(folder: Path | str, thing: Any) -> int:
    """Save ``thing`` as the checkpoint ``folder``; returns its size in bytes.

    The folder appears complete or not at all; an earlier one of that name is replaced. Raises
    :class:`InputError` for a path that does not exist and for what cannot be saved.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    fresh.mkdir()
    try:
        meta = _write(fresh, thing)
        sizes = {p.relative_to(fresh).as_posix(): p.stat().st_size for p in _files(fresh)}
        (fresh / META).write_text(json.dumps({"version": 1, **meta, "files": sizes}))
        if folder.exists():
            old = fresh.with_name(f"{fresh.name}-old")
            folder.rename(old)
            fresh.rename(folder)
            shutil.rmtree(old)
        else:
            fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return sum(sizes.values())


def load_checkpoint(folder: Path | str) -> Any:
    """What was saved; see the table at the top of this module. Load only what this study saved.

    Raises :class:`CheckpointError` when the folder is missing or damaged.
    """
    folder = Path(folder)
    meta = _checked(folder)
    match meta["kind"]:
        case "bytes":
            return (folder / "data.bin").read_bytes()
        case "file":
            return folder / Path(meta["name"]).name
        case "folder":
            return folder / "files"
        case "tree":
            return _load_tree(folder)
        case "torch":
            import torch

            return torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        case "lightgbm":
            import lightgbm

            return lightgbm.Booster(model_file=str(folder / "model.txt"))
        case "xgboost":
            import xgboost

            kind = getattr(xgboost, meta["class"], None)
            if not (isinstance(kind, type) and issubclass(kind, xgboost.Booster | xgboost.XGBModel)):
                raise CheckpointError(f"the checkpoint {folder} names no model of XGBoost: {meta['class']!r}")
            model = kind()
            model.load_model(folder / "model.ubj")
            return model
        case "pickle":
            import cloudpickle

            return cloudpickle.loads((folder / "object.pkl").read_bytes())
        case kind:
            raise CheckpointError(
                f"the checkpoint {folder} is of kind {kind!r}, which this version does not know; use the "
                "version that wrote it"
            )


def delete_checkpoint(study: Path, uri: str) -> None:
    """Remove a checkpoint below the folder of the study; what is elsewhere is left alone."""
    folder = locate_checkpoint(study, uri)
    if folder is None or not folder.is_dir():
        return
    # Renamed first: nobody may find half of it.
    doomed = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def locate_checkpoint(study: Path, uri: str) -> Path | None:
    """Where the checkpoint lies: below the study's folder, wherever that was when it was saved.

    ``None`` for any other place: the journal may come from MLflow, and what it says there must not make
    anybody read, upload or write files of this machine's user.
    """
    parts = Path(uri).parts
    if "checkpoints" not in parts:
        return None
    below = parts[len(parts) - parts[::-1].index("checkpoints") :]
    return study.joinpath("checkpoints", *below) if below and ".." not in below else None


def is_pickle(folder: Path) -> bool:
    """Whether to load the checkpoint would run code that is in it."""
    return bool(_checked(folder)["kind"] == "pickle")


def _checked(folder: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text())
        sizes = {name: (folder / name).stat().st_size for name in meta["files"]}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"there is no whole checkpoint at {folder} ({error}); requeue the trial to run it anew"
        ) from None
    if sizes != meta["files"]:
        raise CheckpointError(
            f"the checkpoint {folder} is damaged: expected files of {meta['files']} bytes, found {sizes}; "
            "requeue the trial to run it anew"
        )
    return meta


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


# -- saving ------------------------------------------------------------------------------------


def _write(folder: Path, thing: Any) -> dict[str, Any]:
    if isinstance(thing, bytes | bytearray | memoryview):
        (folder / "data.bin").write_bytes(thing)
        return {"kind": "bytes"}
    if isinstance(thing, str | Path):
        return _write_path(folder, Path(thing))
    torch = sys.modules.get("torch")
    if torch is not None:
        if isinstance(thing, torch.nn.Module):
            thing = thing.state_dict()
        if _has_tensor(thing, torch):
            torch.save(thing, folder / "state.pt")
            return {"kind": "torch"}
    arrays: dict[str, np.ndarray] = {}
    try:
        tree = json.dumps(_plain(thing, arrays), allow_nan=True)
    except TypeError:
        return _write_model(folder, thing)
    (folder / "tree.json").write_text(tree)
    np.savez(folder / "tree.npz", **arrays)  # type: ignore[arg-type]  # no name is allow_pickle
    return {"kind": "tree"}


def _write_path(folder: Path, path: Path) -> dict[str, Any]:
    if path.is_dir():
        shutil.copytree(path, folder / "files")
        return {"kind": "folder"}
    if not path.is_file():
        raise InputError(
            f"trial.save was given the path {str(path)!r}, which does not exist; write the file or folder "
            "first, or pass the text as bytes"
        )
    name = path.name if path.name != META else "data"
    shutil.copyfile(path, folder / name)
    return {"kind": "file", "name": name}


def _write_model(folder: Path, thing: Any) -> dict[str, Any]:
    lightgbm, xgboost = sys.modules.get("lightgbm"), sys.modules.get("xgboost")
    if lightgbm is not None and isinstance(thing, lightgbm.Booster):
        # All iterations: the best one alone would not be the state that training goes on from.
        thing.save_model(str(folder / "model.txt"), num_iteration=-1)
        return {"kind": "lightgbm"}
    if xgboost is not None and isinstance(thing, xgboost.Booster | xgboost.XGBModel):
        thing.save_model(folder / "model.ubj")
        return {"kind": "xgboost", "class": type(thing).__name__}
    import cloudpickle

    try:
        data = cloudpickle.dumps(thing)
    except Exception as error:  # noqa: BLE001 - a pickler raises anything
        raise InputError(
            f"trial.save cannot save a {type(thing).__name__} ({error}); save it to a file yourself and pass "
            "the path"
        ) from None
    (folder / "object.pkl").write_bytes(data)
    return {"kind": "pickle"}


def _has_tensor(thing: Any, torch: Any) -> bool:
    if isinstance(thing, torch.Tensor):
        return True
    if isinstance(thing, Mapping):
        return any(_has_tensor(v, torch) for v in thing.values())
    return isinstance(thing, list | tuple) and any(_has_tensor(v, torch) for v in thing)


def _plain(thing: Any, arrays: dict[str, np.ndarray]) -> Any:
    """``thing`` as JSON, its arrays moved to ``arrays``. Raises ``TypeError`` for what is neither."""
    match thing:
        case None | bool() | int() | float() | str():
            return thing
        case np.ndarray() | np.generic() if thing.dtype != object:
            name = f"a{len(arrays)}"
            arrays[name] = np.asarray(thing)
            return {_ARRAY: name, "scalar": isinstance(thing, np.generic)}
        case list() | tuple():
            return [_plain(item, arrays) for item in thing]
        case dict() if all(isinstance(k, str) for k in thing) and _ARRAY not in thing:
            return {key: _plain(value, arrays) for key, value in thing.items()}
        case _:
            raise TypeError(type(thing).__name__)


def _load_tree(folder: Path) -> Any:
    with np.load(folder / "tree.npz", allow_pickle=False) as arrays:

        def restored(thing: Any) -> Any:
            match thing:
                case dict() if _ARRAY in thing:
                    array = arrays[thing[_ARRAY]]
                    return array[()] if thing["scalar"] else array
                case dict():
                    return {key: restored(value) for key, value in thing.items()}
                case list():
                    return [restored(item) for item in thing]
                case _:
                    return thing

        return restored(json.loads((folder / "tree.json").read_text()))
