"""Units in worker processes, each of them watched: one that dies costs its unit and nothing else."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from clipbias.engine.unit import Outcome, attempt
from clipbias.errors import ClipbiasError

_THREAD_SWITCHES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def run_workers(
    units: Sequence[Any], work: Callable[[Any], Any], workers: int, report: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run the units in ``workers`` new processes; see `clipbias.engine.run_units`."""
    try:
        payload = pickle.dumps(work)
    except Exception as problem:
        raise ClipbiasError(
            f"the work cannot be sent to another process ({problem}); it must be a function of a module."
        ) from problem
    done: list[Outcome] = []

    def finish(outcome: Outcome) -> None:
        done.append(outcome)
        report(outcome)

    waiting = list(range(len(units)))[::-1]
    threads = max(1, _cores() // workers)
    crew: dict[Connection, _Worker] = {}
    leaving: list[_Worker] = []
    try:
        while waiting or crew:
            while len(crew) < workers and sum(one.index is None for one in crew.values()) < len(waiting):
                hired = _Worker(payload, threads)
                crew[hired.pipe] = hired
            for pipe in wait(list(crew)):
                worker = crew[pipe]  # type: ignore[index]
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    message = None
                except Exception as problem:  # a value that cannot be unpickled here
                    text = f"the result cannot be read: {problem}"
                    message = Outcome(
                        worker.index or 0, None, error=text, kind=type(problem).__name__, exit_code=1
                    )
                if message is None:
                    del crew[worker.pipe]
                    finish(worker.crashed(units))
                    continue
                if isinstance(message, str) and message:
                    raise ClipbiasError(f"the work cannot be read in another process: {message}")
                if isinstance(message, Outcome):
                    # The unit itself stayed here; only its value came back.
                    finish(Outcome(**{**vars(message), "unit": units[message.index]}))
                worker.ready, worker.index = True, None
                while waiting and worker.index is None:
                    index = waiting.pop()
                    try:
                        worker.give(index, units[index])
                    except (BrokenPipeError, ConnectionError):
                        waiting.append(index)  # it died while idle; another takes the unit
                        break
                    except Exception as problem:
                        text = f"the unit cannot be sent to another process: {problem}"
                        finish(
                            Outcome(index, units[index], error=text, kind=type(problem).__name__, exit_code=1)
                        )
                if worker.index is None:
                    worker.dismiss()
                    leaving.append(crew.pop(worker.pipe))
        for worker in leaving:
            worker.process.join(10)
    finally:
        for worker in leaving:
            worker.end()
        for worker in crew.values():
            worker.end()
    return done


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, payload: bytes, threads: int) -> None:
        # Spawned, not forked: a fork of a process that has used torch's threads or CUDA can hang.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(theirs, payload, threads), daemon=True
        )
        with _without_ctrl_c():
            self.process.start()
        theirs.close()
        self.index: int | None = None
        self.ready = False

    def give(self, index: int, unit: Any) -> None:
        self.pipe.send((index, unit))
        self.index = index

    def crashed(self, units: Sequence[Any]) -> Outcome:
        """Return the outcome of the unit that took this process down."""
        self.process.join(10)
        code = self.process.exitcode
        if not self.ready or self.index is None:
            raise ClipbiasError(
                f"worker processes cannot start (exit code {code}). A script that uses them must guard its main part "
                f"with: if __name__ == '__main__':"
            )
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        hint = "; the machine may be out of memory" if code == -9 else ""
        return Outcome(
            self.index, units[self.index], error=f"its process died ({how}{hint}).", kind="crash", exit_code=1
        )

    def dismiss(self) -> None:
        """Let an idle process go home."""
        with contextlib.suppress(OSError):  # it may have died on its own
            self.pipe.send(None)
        self.pipe.close()

    def end(self) -> None:
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(5)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()


def _serve(pipe: Connection, payload: bytes, threads: int) -> None:
    """Take units from the pipe until there are no more; runs in the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # see _without_ctrl_c
    # Before torch is imported, with the work.
    os.environ.update({name: str(threads) for name in _THREAD_SWITCHES})
    try:
        work = pickle.loads(payload)
    except Exception as problem:
        pipe.send(f"{type(problem).__name__}: {problem}")
        return
    pipe.send("")
    while True:
        try:
            message = pipe.recv()
        except EOFError:  # the parent is gone
            return
        if message is None:
            return
        _limit_torch(threads)
        index, unit = message
        outcome = attempt(index, unit, work)
        outcome = Outcome(**{**vars(outcome), "unit": None})
        try:
            pipe.send(outcome)
        except (BrokenPipeError, ConnectionError):
            return
        except Exception as problem:  # a value that cannot be pickled
            text = f"the result cannot be sent back: {problem}"
            pipe.send(
                Outcome(
                    index, None, error=text, kind=type(problem).__name__, exit_code=1, seconds=outcome.seconds
                )
            )


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C: it reaches the whole group, and the parent decides what it means.

    Blocked here, so that a process that is still importing is deaf too.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _limit_torch(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
