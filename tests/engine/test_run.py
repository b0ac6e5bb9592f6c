"""Units: the same outcomes in the same order whatever the engine, and one failure costs one unit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import engine_work as work
import numpy as np
import pytest

from clipbias.engine import Outcome, parse_engine, run_units
from clipbias.errors import ClipbiasError

ROOT = Path(__file__).resolve().parents[2]


class FakeRay(types.ModuleType):
    """As much of Ray as the engine uses, run in this process and answered in reverse."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.log: list[str] = []
        self.running = False
        self.answers: dict[int, object] = {}

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **options: object) -> None:
        self.running = True
        self.log.append("init")

    def shutdown(self) -> None:
        self.running = False
        self.log.append("shutdown")

    def remote(self, **options: object):
        self.log.append(f"retries {options['max_retries']}")

        def decorate(function):
            def submit(*arguments: object) -> int:
                self.answers[len(self.answers)] = (function, arguments)
                return len(self.answers) - 1

            return types.SimpleNamespace(remote=submit)

        return decorate

    def wait(self, references: list[int], num_returns: int) -> tuple[list[int], list[int]]:
        return references[-1:], references[:-1]

    def get(self, reference: int) -> Outcome:
        function, arguments = self.answers[reference]
        if arguments[1] == "kill":
            raise RuntimeError("The worker died unexpectedly.\nMore lines.")
        return function(*arguments)

    def cancel(self, reference: int, force: bool) -> None:
        self.log.append(f"cancel {reference}")


@pytest.fixture
def ray(monkeypatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


@pytest.fixture(params=["local", "workers:2", "ray"])
def engine(request, ray) -> str:
    return request.param


def test_values_in_order(engine):
    done = run_units(range(5), work.square, engine=engine)
    assert [(one.index, one.unit, one.value) for one in done] == [(n, n, n * n) for n in range(5)]
    assert all(one.ok and one.exit_code == 0 and one.seconds >= 0 for one in done)


def test_failed_units_are_outcomes_and_the_others_go_on(engine):
    units = ["a", "data", "b", "model", "bug", "exit", "c"]
    seen = []
    done = run_units(units, work.mixed, engine=engine, on_done=seen.append)
    assert [one.value for one in done] == ["did a", None, "did b", None, None, None, "did c"]
    assert [one.exit_code for one in done] == [0, 2, 0, 1, 1, 1, 0]
    assert [one.kind for one in done] == ["", "DataError", "", "ModelError", "KeyError", "SystemExit", ""]
    assert done[1].error == "image set 'x' has no column 'gendr'. Did you mean 'gender'?"
    assert "unexpected error: KeyError: 'missing'" in done[4].error
    assert "(in engine_work.py, line" in done[4].error  # enough to report it
    assert sorted(one.index for one in seen) == list(range(7))
    assert [one.unit for one in done] == units


def test_no_units(engine):
    assert run_units([], work.square, engine=engine) == []


def test_outcomes_are_reported_as_they_come_and_returned_in_order():
    seen = []
    done = run_units(
        [0, 1, 2], work.slow_first, engine="workers:2", on_done=lambda one: seen.append(one.unit)
    )
    assert [one.unit for one in done] == [0, 1, 2]
    assert seen[-1] == 0


@pytest.mark.parametrize(("how", "says"), [("kill", "signal SIGKILL"), ("leave", "exit code 3")])
def test_a_process_that_dies_costs_its_unit_only(how, says):
    done = run_units(["a", how, "b", how, "c"], work.deadly, engine="workers:2")
    assert [one.value for one in done] == ["did a", None, "did b", None, "did c"]
    assert done[1].kind == done[3].kind == "crash"
    assert says in done[1].error
    assert not multiprocessing.active_children()


def test_a_ray_task_that_dies_costs_its_unit_only(ray):
    done = run_units(["a", "kill", "b"], work.deadly, engine="ray")
    assert [one.value for one in done] == ["did a", None, "did b"]
    assert done[1].error == "its Ray task died: The worker died unexpectedly."
    assert ray.log == ["init", "retries 0", "shutdown"]


def test_a_running_ray_is_left_running_and_an_interrupt_cancels_its_tasks(ray):
    ray.running = True

    def interrupt(outcome: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_units([1, 2, 3], work.square, engine="ray", on_done=interrupt)
    assert ray.log == ["retries 0", "cancel 0", "cancel 1"]


@pytest.mark.parametrize(
    ("function", "says"),
    [(work.unsendable, "cannot be sent back"), (work.unreadable, "cannot be read: refused")],
)
def test_values_that_cannot_travel(function, says):
    done = run_units([0, 1, 2], function, engine="workers:1")
    assert [one.value for one in done] == [0, None, 2]
    assert says in done[1].error


def test_units_and_work_that_cannot_travel():
    done = run_units([1, lambda: None, 3], work.square, engine="workers:2")
    assert [one.value for one in done] == [1, None, 9]
    assert "cannot be sent to another process" in done[1].error
    with pytest.raises(ClipbiasError, match="function of a module"):
        run_units([1], lambda unit: unit, engine="workers:1")


@pytest.mark.slow
def test_the_cores_are_shared_out():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    done = run_units(range(3), work.threads, engine="workers:2")
    assert {one.value[:2] for one in done} == {(str(max(1, cores // 2)), max(1, cores // 2))}
    assert os.getpid() not in {one.value[2] for one in done}


@pytest.mark.slow
def test_the_same_bits_on_every_engine(ray):
    local, workers, remote = (
        run_units(range(4), work.embed, engine=name) for name in ("local", "workers:2", "ray")
    )
    for one, two, three in zip(local, workers, remote, strict=True):
        np.testing.assert_array_equal(one.value, two.value)
        np.testing.assert_array_equal(one.value, three.value)


def test_ctrl_c_passes_through_and_ends_the_workers():
    def interrupt(outcome: Outcome) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_units([0, 900, 900], work.sleep, engine="workers:2", on_done=interrupt)
    assert time.monotonic() - start < 600
    assert not multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        run_units([0, 1], work.sleep, on_done=interrupt)


# A shell that runs the tests in the background makes them ignore Ctrl-C, and the script would inherit that.
SCRIPT = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {tests!r})
import engine_work
from clipbias.engine import run_units
if __name__ == "__main__":
    print("started", flush=True)
    run_units([900, 900], engine_work.sleep, engine="workers:2")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals to a process group")
def test_a_real_ctrl_c_ends_a_command_at_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout.readline() == "started\n"
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1  # the workers die quietly


def test_a_script_without_main_guard_gets_one_message(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.format(tests=str(Path(__file__).parent)).replace('if __name__ == "__main__":', "if True:")
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, timeout=60
    )
    assert result.returncode != 0
    assert "must guard its main part" in result.stderr


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("workrs:2", "Did you mean 'workers:4'"),
        ("workers", "how many"),
        ("workers:0", "how many"),
        ("workers:x", "how many"),
        ("", "unknown"),
    ],
)
def test_wrong_engines(engine, says):
    with pytest.raises(ClipbiasError, match=says):
        run_units([1], work.square, engine=engine)


def test_engine_names():
    assert [parse_engine(name) for name in ("local", "workers:3", "ray")] == [0, 3, None]


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClipbiasError, match="pip install ray"):
        run_units([1], work.square, engine="ray")


def test_importing_the_engine_imports_nothing_heavy():
    code = (
        "import sys, clipbias.engine; sys.exit(bool({'torch', 'ray', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
