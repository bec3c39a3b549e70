"""Runs stages: each in a process of its own, as many at a time as there are workers, inputs before readers.

A process of its own gives each stage a clean random state and a peak of memory that can be measured. When the parent
dies, however it dies, its workers stop; what they had finished or check-pointed is taken up by the next run.

Several ranks (`torchrun -m reproductions ...`) go through the stages side by side: a stage that is `shared` is run by
all of them, any other by the first alone.
"""

import json
import multiprocessing as mp
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reproductions import ranks
from reproductions.artefacts import Desk, Stage, begin, finish, receipt, upstream, write_json
from reproductions.loop import room
from reproductions.loop.checkpoints import clear

ATTEMPTS = "attempts.json"
OPTIMISER = "torch._dynamo"  # what the first optimiser of a process imports, in seconds
MISTAKES = (ValueError, TypeError, OSError, ArithmeticError, RuntimeError)


class StageFailed(RuntimeError):
    """A stage raised; the message is the stage's own."""


class Bar:
    """A progress bar: drawn in place on a terminal, a line every fifteen seconds elsewhere."""

    def __init__(self, title: str, slot: int) -> None:
        self.title, self.slot, self.text = title, slot, ""
        self.bar: Any = None

    def __call__(self, steps: Iterable[Any], total: int | None = None, done: int = 0) -> Iterator[Any]:
        if total is None and isinstance(steps, Sequence):
            total = len(steps) + done
        if sys.stderr.isatty():
            with tqdm(total=total, initial=done, desc=self.title, position=self.slot, leave=False) as self.bar:
                for step in steps:
                    yield step
                    self.bar.update()
        else:
            yield from self.lines(steps, total, done)

    def lines(self, steps: Iterable[Any], total: int | None, done: int) -> Iterator[Any]:
        """The same without a terminal."""
        start = said = time.monotonic()
        for count, step in enumerate(steps, done + 1):
            yield step
            if (now := time.monotonic()) - said > 15:
                said = now
                line = tqdm.format_meter(count, total or 0, now - start, initial=done, prefix=self.title, ncols=100)
                print(line, self.text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Show `text` beside the bar."""
        self.text = text
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)


class Silence:
    """No progress bar: what a rank shows that does not lead."""

    def __call__(self, steps: Iterable[Any], total: int | None = None, done: int = 0) -> Iterator[Any]:
        return iter(steps)

    def note(self, text: str) -> None:
        """Show nothing."""


def run(stages: Sequence[Stage], out: Path, *, workers: int, threads: int) -> dict[str, dict[str, Any]]:
    """Run `stages` and what they need; return each one's receipt by digest, with `reused` set.

    workers: processes at a time (0: all in this process, one after the other); threads: of each. Where there are
    several ranks, they are the processes.

    Raises:
        StageFailed: with the message of the stage that failed, once the others have stopped.
    """
    root = out / "stages"
    root.mkdir(parents=True, exist_ok=True)
    wanted = upstream(stages)
    if ranks.count() > 1:
        return _run_on_ranks(wanted, out)
    receipts = _finished(wanted, root)
    pending = [stage for stage in wanted if stage.digest not in receipts]
    if workers:
        _run_in_processes(pending, out, receipts, workers, threads)
    else:
        for stage in pending:
            receipts[stage.digest] = _attempt_here(stage, out)
    return receipts


def _finished(stages: Sequence[Stage], root: Path) -> dict[str, dict[str, Any]]:
    noted = {stage.digest: receipt(stage, root) for stage in stages}
    return {digest: {**found, "reused": True} for digest, found in noted.items() if found is not None}


def _attempt_here(stage: Stage, out: Path) -> dict[str, Any]:
    try:
        return _attempt(stage, out, Bar(stage.name, 0))
    except MISTAKES as error:
        raise StageFailed(f"{stage.name}: {error}") from error


def _run_on_ranks(stages: Sequence[Stage], out: Path) -> dict[str, dict[str, Any]]:
    """Run what is left, stage by stage, on all ranks or on the first."""
    root = out / "stages"
    ranks.join()
    if ranks.leads():
        _finished(stages, root)
    ranks.meet()
    receipts = _finished(stages, root)
    for stage in stages:
        if stage.digest in receipts:
            continue
        if ranks.leads():
            begin(stage, root)
        ranks.meet()
        if ranks.leads():
            _attempt_here(stage, out)
        elif stage.shared:
            inputs = {key: needed.folder(root) for key, needed in stage.inputs.items()}
            folder = begin(stage, root)
            board = out / "tensorboard" / stage.name
            stage.run(Desk(folder, stage.settings, inputs, Silence(), board, ranks.own(), ranks.count()))
        ranks.meet()
        receipts[stage.digest] = {**_finished([stage], root)[stage.digest], "reused": False}
    return receipts


def _run_in_processes(
    pending: list[Stage], out: Path, receipts: dict[str, dict[str, Any]], workers: int, threads: int
) -> None:
    """Start whatever is ready while there is a free slot; stop everything on the first failure."""
    context = mp.get_context("forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([OPTIMISER, *sorted({stage.run.__module__ for stage in pending})])
    lock = context.RLock()
    running: dict[Connection, tuple[Stage, int, BaseProcess]] = {}
    try:
        while pending or running:
            free = sorted(set(range(workers)) - {slot for _, slot, _ in running.values()})
            ready = [s for s in pending if all(i.digest in receipts for i in s.inputs.values())]
            for stage, slot in zip(ready, free, strict=False):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(stage, out, slot, threads, theirs, lock), daemon=True)
                process.start()
                theirs.close()
                running[ours] = (stage, slot, process)
                pending.remove(stage)
            for finished in wait(list(running)):
                assert isinstance(finished, Connection)
                stage, _, process = running.pop(finished)
                receipts[stage.digest] = _outcome(stage, finished, process)
                seconds = receipts[stage.digest]["cost"]["seconds"]
                tqdm.write(f"  done  {stage.name}  ({seconds:.0f} s)", file=sys.stderr)
    finally:
        for _, _, process in running.values():
            process.kill()
            process.join()


def _outcome(stage: Stage, connection: Connection, process: BaseProcess) -> dict[str, Any]:
    try:
        kind, value = connection.recv()
    except EOFError:
        process.join()
        raise StageFailed(
            f"{stage.name}: its process was ended from outside (exit code {process.exitcode}; memory full?). "
            "Nothing finished is lost: give the same command again to go on."
        ) from None
    process.join()
    if kind == "failed":
        raise StageFailed(f"{stage.name}: {value}")
    noted: dict[str, Any] = value
    return noted


def _work(stage: Stage, out: Path, slot: int, threads: int, connection: Connection, lock: Any) -> None:
    """The life of a worker process: one stage."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    tqdm.set_lock(lock)
    import torch

    torch.set_num_threads(threads)
    try:
        connection.send(("done", _attempt(stage, out, Bar(stage.name, slot))))
    except MISTAKES as error:
        if os.environ.get("CONPREDIFF_TRACEBACK"):
            traceback.print_exc()
        connection.send(("failed", str(error) or repr(error)))
    except BaseException:
        connection.send(("failed", traceback.format_exc()))


def _end_with_parent() -> None:
    parent = mp.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _attempt(stage: Stage, out: Path, track: Bar) -> dict[str, Any]:
    """Run one stage to its end, adding up the time of earlier, interrupted attempts."""
    root = out / "stages"
    folder = begin(stage, root)
    attempts = _attempts(folder)
    started, said = time.monotonic(), [0.0]

    class Clock(Bar):
        def __call__(self, steps: Iterable[Any], total: int | None = None, done: int = 0) -> Iterator[Any]:
            for step in super().__call__(steps, total, done):
                yield step
                if (now := time.monotonic()) - said[0] > 5:
                    said[0] = now
                    write_json(folder / ATTEMPTS, [*attempts, now - started])

    inputs = {key: needed.folder(root) for key, needed in stage.inputs.items()}
    board, together = out / "tensorboard" / stage.name, ranks.count() if stage.shared else 1
    desk = Desk(folder, stage.settings, inputs, Clock(track.title, track.slot), board, ranks=together)
    with _room(folder):
        stage.run(desk)
        clear(folder)
        (folder / ATTEMPTS).unlink(missing_ok=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
        finish(stage, root, {"seconds": sum(attempts) + time.monotonic() - started, "peak_mib": peak})
    noted = receipt(stage, root)
    if noted is None:
        raise StageFailed(f"{stage.name}: {stage.folder(root)} was changed while it was written")
    return {**noted, "reused": False}


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Call a full disk by its name, whatever library met it."""
    try:
        yield
    except room.NoRoom:
        raise
    except Exception as error:
        if not room.is_full(error, folder):
            raise
        raise room.NoRoom(
            f"no room on the disk of {folder}: {room.said(room.free(folder))} free, and what this stage writes, of "
            f"which {room.said(room.size(folder))} are there, does not fit; make room there"
        ) from error


def _attempts(folder: Path) -> list[float]:
    """Seconds that earlier attempts ran."""
    try:
        return [float(seconds) for seconds in json.loads((folder / ATTEMPTS).read_text())]
    except (OSError, ValueError, TypeError):
        return []
