"""Which GPU each slot sees: ``CUDA_VISIBLE_DEVICES`` per slot, whole cards or fractions of one."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess

from hpo_core import InputError


def visible_gpus() -> list[str]:
    """Identifiers of the cards this process may use, by ``CUDA_VISIBLE_DEVICES`` or the driver's list."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        # As for CUDA, what comes after one that is none is not there either.
        devices = (device.strip() for device in given.split(","))
        return [*itertools.takewhile(lambda device: device not in ("", "-1"), devices)]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    listed = subprocess.run(
        [tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return listed.stdout.split() if listed.returncode == 0 else []


def gpu_slots(gpus: list[str], *, gpus_per_trial: float, most: int | None) -> list[str]:
    """The value of ``CUDA_VISIBLE_DEVICES`` for each slot, cards filled evenly.

    ``gpus_per_trial``: a whole number of cards, or a fraction such as 0.25, for four trials on each.
    ``most`` limits the number of slots. Raises :class:`InputError` for amounts that no card can give.
    """
    if not gpus_per_trial > 0 or (gpus_per_trial > 1 and gpus_per_trial % 1):
        raise InputError(
            f"gpus_per_trial must be a whole number or a fraction of at most 1, got {gpus_per_trial!r}"
        )
    if gpus_per_trial > len(gpus):
        raise InputError(f"a trial wants {gpus_per_trial:g} GPUs and this machine has {len(gpus)}")
    if gpus_per_trial >= 1:
        width = int(gpus_per_trial)
        slots = iter([",".join(gpus[i : i + width]) for i in range(0, len(gpus) - width + 1, width)])
    else:
        share = int(1 / gpus_per_trial + 1e-9)
        slots = (gpu for _ in range(share) for gpu in gpus)
    return [*itertools.islice(slots, most)]
