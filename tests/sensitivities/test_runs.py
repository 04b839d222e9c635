"""A sensitivity is the same on every executor, and little is lost when something dies."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import fxprune
from fxprune import FxPruneError, InputError, Sensitivity
from fxprune.sensitivities.runs import Evaluation, Step, _Turns
from tests.processes import local_cluster
from tests.sensitivities.models import Counting, X, error, two

CHECKOUT = Path(__file__).parents[2]
RATIOS = (0.25, 0.5, 0.75)


def measured(evaluate: Any = error, **options: Any) -> Sensitivity:
    options = {"ratios": RATIOS, "mode": "min", "progress": False, **options}
    return fxprune.sensitivity(two(), X[:2], evaluate, **options)


@contextmanager
def another_process() -> Iterator[Executor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def shared() -> Iterator[Executor]:
    with another_process() as executor:
        yield executor


# -- executors -------------------------------------------------------------------------------


def test_threads_find_what_this_thread_finds() -> None:
    with ThreadPoolExecutor(4) as executor:
        assert measured(executor=executor, pending=6) == measured()


@pytest.mark.slow
def test_processes_find_what_this_thread_finds(tmp_path: Path, shared: Executor) -> None:
    evaluate = Counting(tmp_path / "calls")
    assert measured(evaluate, executor=shared) == measured()
    assert evaluate.count == 7


def test_another_process_analyzes_a_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    analyze = fxprune.Plan.analyze

    def noted(*args: Any) -> fxprune.DependencyGraph:
        calls.append(args)
        return analyze(*args)

    evaluation = Evaluation(fxprune.analyze(two(), X[:2]), X[:2], error, "quick")
    plan = fxprune.plan(two(), X[:2], ratio=0.5)
    monkeypatch.setattr(fxprune.Plan, "analyze", noted)
    monkeypatch.setattr("fxprune.sensitivities.runs._ARRIVED", {})
    steps = [Step(plan, name) for name in ("first", "second")]
    values = [pickle.loads(pickle.dumps(evaluation))(step) for step in steps]
    assert values == [evaluation.here(step) for step in steps]
    arrivals = [model for _, model, _ in calls if isinstance(model, nn.Module)]
    assert len(arrivals) == 1


@pytest.mark.parametrize(
    "separate",
    [False, pytest.param(True, marks=pytest.mark.slow)],
    ids=["threads", "processes"],
)
def test_a_local_cluster_of_dask_finds_what_this_thread_finds(separate: bool) -> None:
    with local_cluster(1, processes=separate) as executor:
        assert measured(executor=executor) == measured()
        # a function that only this process has
        assert measured(lambda model: error(model) + 0, executor=executor) == measured()


class Noting(Executor):
    """Runs what is submitted at once, and notes how much was pending."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []
        self.most = 0
        self.pool = ThreadPoolExecutor(2)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.futures.append(self.pool.submit(fn, *args, **kwargs))
        self.most = max(self.most, sum(not future.done() for future in self.futures))
        return self.futures[-1]


def test_an_executor_has_no_more_points_than_may_be_pending() -> None:
    executor = Noting()
    measured(executor=executor, pending=3)
    assert len(executor.futures) == 7
    assert executor.most <= 3
    executor.pool.shutdown()


def test_who_shrinks_is_alone_and_who_evaluates_is_not() -> None:
    turns, state = _Turns(), {"alone": 0, "together": 0}
    seen: list[dict[str, int]] = []

    def work() -> None:
        for _ in range(20):
            with turns.alone():
                state["alone"] += 1
                seen.append(dict(state))
                time.sleep(0.0005)
                state["alone"] -= 1
            with turns.together():
                state["together"] += 1
                seen.append(dict(state))
                time.sleep(0.0005)
                state["together"] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(s["alone"] + (s["together"] > 0) == 1 for s in seen)
    assert max(s["together"] for s in seen) > 1


def test_threads_evaluate_at_the_same_time() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def evaluate(model: nn.Module) -> float:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return error(model)

    with ThreadPoolExecutor(2) as executor:
        measured(evaluate, executor=executor, pending=2)
    assert most == 2


# -- what fails ------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_cannot_be_sent_to_another_process_is_refused(
    monkeypatch: pytest.MonkeyPatch, shared: Executor
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(InputError, match="cannot be sent") as raised:
        measured(lambda model: error(model) + 0, executor=shared)
    assert "ThreadPoolExecutor" in str(raised.value)


def test_what_the_worker_cannot_load_is_told() -> None:
    deps = fxprune.analyze(two(), X[:2])
    shipped = pickle.loads(pickle.dumps(Evaluation(deps, X[:2], error, "quick")))
    broken = type(shipped)(b"no pickle", "digest")
    plan = fxprune.plan(deps, ratio=0.5)
    with pytest.raises(InputError, match="a worker cannot load"):
        broken(Step(plan, "group"))


def dying(model: nn.Module) -> float:
    if model.get_submodule("small").out_features == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return error(model)


@pytest.mark.slow
def test_a_worker_that_dies_is_told_and_finished_points_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "points.json"
    with (
        another_process() as executor,
        pytest.raises(FxPruneError, match="not evaluated") as raised,
    ):
        measured(dying, executor=executor, pending=1, resume=file)
    assert "resume=" in str(raised.value)
    known = Sensitivity.load(file).values
    assert list(known["large"]) == list(RATIOS)
    assert list(known["small"]) == [0.25]
    assert measured(resume=file) == measured()


def failing(model: nn.Module) -> float:
    if model.get_submodule("large").out_features != 16:
        raise ValueError("too small for me")
    return error(model)


@pytest.mark.slow
def test_an_error_of_evaluate_in_another_process_is_that_of_this_one(shared: Executor) -> None:
    with pytest.raises(InputError, match="group large at ratio") as raised:
        measured(failing, executor=shared)
    assert "ValueError: too small for me" in str(raised.value)
    assert "test_runs.py" in str(raised.value)


def test_after_an_error_nothing_more_is_begun() -> None:
    executor = Noting()
    with pytest.raises(InputError, match="too small"):
        measured(failing, executor=executor, pending=1)
    assert len(executor.futures) == 2  # the whole model, and the point that failed
    executor.pool.shutdown()


def test_an_executor_that_is_shut_down_is_told() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(FxPruneError, match="the whole model was not evaluated"):
        measured(executor=executor)


def test_a_client_of_dask_is_no_executor_but_has_one() -> None:
    class Client:
        def get_executor(self) -> None: ...

    with pytest.raises(InputError, match=r"client\.get_executor\(\)"):
        measured(executor=Client())


# -- kill -9 ---------------------------------------------------------------------------------

SLOW = """
import sys, time
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
import fxprune
from tests.processes import local_cluster
from tests.sensitivities.models import Counting, X, two

class Slow(Counting):
    def __call__(self, model):
        value = super().__call__(model)
        time.sleep(0.2)
        return value

executor = ThreadPoolExecutor(1) if sys.argv[3] == "executor" else None
fxprune.sensitivity(
    two(), X[:2], Slow(Path(sys.argv[1])), ratios=(0.25, 0.5, 0.75), mode="min",
    executor=executor, pending=1, resume=sys.argv[2],
)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("where", "calls"), [("here", 4), ("executor", 2)])
def test_a_kill_in_the_middle_loses_at_most_the_step_in_flight(
    tmp_path: Path, where: str, calls: int
) -> None:
    file, evaluate = tmp_path / "points.json", Counting(tmp_path / "calls")
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(evaluate.path), str(file), where],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    while evaluate.count < calls and run.poll() is None:
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    begun = evaluate.count
    assert begun < 7
    finished = 0
    if file.exists():
        known = Sensitivity.load(file)
        finished = 1 + sum(len(curve.points) for curve in known.curves.values())
    assert begun - finished <= 1
    assert measured(evaluate, resume=file) == measured()
    assert evaluate.count - begun == 7 - finished
