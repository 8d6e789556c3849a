"""What runs on the workers of a Dask cluster: one segment after the other, each in a warm child process.

The worker's own event loop supervises the child under the same limits as locally. Messages go to the
driver as Dask events; commands of the driver come as calls on this worker.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distributed import get_worker

from flows.runners import _messages as m
from flows.runners._local import LocalRunner
from flows.runners._messages import Job
from flows.runners._port import Message, RunIdWanted, Work, data_of

# How often a worker looks whether its segment is still wanted, and how long a warm process may idle.
_LOOK_SECONDS, _IDLE_SECONDS = 1.0, 30.0


@dataclass(slots=True)
class _Busy:
    """A runner at work; ``answer``: takes the run id that its segment has asked for."""

    runner: LocalRunner
    answer: Callable[[str], None] | None = None


# Of all studies here: runners by study and number, those at work by segment, and when each was used last.
_RUNNERS: dict[str, LocalRunner] = {}
_BUSY: dict[str, _Busy] = {}
_USED: dict[int, float] = {}
_CLOSING: set[asyncio.Future[None]] = set()


async def run_segment(key: str, topic: str, work: Work, job: dict[str, Any]) -> dict[str, Any]:
    """Run one segment on this worker; a coroutine, so the worker's own loop supervises it."""
    worker = get_worker()
    worker.log_event(topic, {"type": "begun", "key": key, "worker": worker.address})
    runner = _idle_runner(worker, topic, work)
    busy = _BUSY[key] = _Busy(runner)

    async def on_message(message: Message) -> None:
        if isinstance(message, RunIdWanted):
            busy.answer = message.answer
        worker.log_event(topic, {**data_of(message), "key": key})

    watch = asyncio.create_task(_kill_when_forgotten(worker, key, runner))
    try:
        outcome = await runner.run(0, Job(**job), on_message)
    except asyncio.CancelledError:
        await runner.close()
        raise
    finally:
        watch.cancel()
        del _BUSY[key]
        _retire_later(runner)
    return outcome.to_json()


async def _kill_when_forgotten(worker: Any, key: str, runner: LocalRunner) -> None:
    """End the segment when nobody waits for it any more: its driver is dead, or has given it up.

    The scheduler then forgets the task, and the worker marks it; Dask itself cannot end what runs.
    """
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        task = worker.state.tasks.get(key)
        if task is None or task.state in ("cancelled", "released", "forgotten"):
            await runner.kill(0, "its driver does not wait for it any more")
            return


def _retire_later(runner: LocalRunner) -> None:
    """End a warm process that has had nothing to do for a while; its driver may be dead."""
    _USED[id(runner)] = used = time.monotonic()

    def retire() -> None:
        if _USED.get(id(runner)) == used and not any(busy.runner is runner for busy in _BUSY.values()):
            del _USED[id(runner)]
            for name in [n for n, known in _RUNNERS.items() if known is runner]:
                del _RUNNERS[name]
            closing = asyncio.ensure_future(runner.close())
            _CLOSING.add(closing)
            closing.add_done_callback(_CLOSING.discard)

    asyncio.get_running_loop().call_later(_IDLE_SECONDS, retire)


def _idle_runner(worker: Any, topic: str, work: Work) -> LocalRunner:
    """A warm one-slot runner of this study that is not in use; workers with several threads keep several."""
    at_work = {id(busy.runner) for busy in _BUSY.values()}
    for number in itertools.count():
        if id(runner := _runner(worker, topic, work, number)) not in at_work:
            return runner
    raise AssertionError("unreachable")


def _runner(worker: Any, topic: str, work: Work, number: int) -> LocalRunner:
    name = f"{topic}/{number}"
    if name not in _RUNNERS:
        output = work.folder / "slots" / f"{worker.name}-{number}"
        _RUNNERS[name] = LocalRunner(work, slots=1, output=output)
    return _RUNNERS[name]


async def warm_up(topic: str, work: Work, dask_worker: Any) -> None:
    """Start a process for each thread of this worker, which Dask hands over.

    What fails here fails again in a segment, which has its reason.
    """
    runners = [_runner(dask_worker, topic, work, number) for number in range(dask_worker.state.nthreads)]
    await asyncio.gather(*(runner.start() for runner in runners), return_exceptions=True)
    for runner in runners:
        _retire_later(runner)


async def command(key: str, verb: str, text: str = "") -> None:
    """Pass a command on to the segment, if it still runs here."""
    busy = _BUSY.get(key)
    if busy is None:
        return
    match verb:
        case "stop":
            busy.runner.stop(0)
        case "suspend":
            busy.runner.suspend(0)
        case "kill":
            await busy.runner.kill(0, text)
        case "run_id" if busy.answer is not None:
            busy.answer(text)


async def leave(topic: str) -> None:
    """End this study's processes on this worker."""
    for name in [n for n in _RUNNERS if n.startswith(f"{topic}/")]:
        await _RUNNERS.pop(name).close()


def try_objective(packed: str) -> str:
    """What keeps the objective from loading on this worker, or an empty string."""
    try:
        m.unpack(packed)
    except Exception as error:  # noqa: BLE001 - whatever an import raises is the answer
        return f"{type(error).__name__}: {error}"
    return ""
