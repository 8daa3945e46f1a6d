"""Several processes: the answers of one, whatever their number; and what they say when they do not agree."""

import json
import re
import signal
import socket
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.curve.path_pass import PathSums, add_blocks, join_sums
from flowscope.curve.probes import draw_probes
from flowscope.errors import InputError
from flowscope.oracle import Oracle, Ranks
from flowscope.oracle.plan import plan
from tests.reference import oracle
from tests.support.rank_sets import CURVES, make_set, states
from tests.support.ranks_job import Job, until

pytestmark = pytest.mark.long

BEGIN = """
import sys, json, time, os
from datetime import timedelta
import numpy as np, torch, torch.distributed as dist
import flowscope as fs
from flowscope.oracle import Oracle, Ranks
dist.init_process_group("gloo", timeout=timedelta(seconds=60))
rank = dist.get_rank()
"""
CASES = """
from tests.support.rank_sets import CURVES, make_set, states
answers, curves = {}, {}
with Ranks(timeout=30) as ranks:
    for name in ("plain", "heavy", "few", "wide"):
        data = make_set(name)
        oracle = Oracle(data, ranks=ranks)
        x, t, y = states(data)
        for key, label in (("all", None), ("label", y)):
            found = oracle.posterior(x, t, label, k=1 if name == "few" else 2)
            answers |= {f"{name}|{key}|{k}": v.numpy() for k, v in vars(found).items()}
            answers[f"{name}|{key}|velocity"] = oracle(x, t, label).numpy()
        answers[f"{name}|all|many"] = oracle.posterior(x, t, k=len(oracle.support.law())).weights.numpy()
        assert oracle(x[:0], 0.5).shape == x[:0].shape
        shared = Oracle(data, ranks=ranks.sharded)
        own = slice(rank, rank + 2 if rank else 0)  # no states on rank 0, others overlap
        for label in (None, y):
            asked = x[own], t[own], None if label is None else label[own]
            alone, found = oracle.posterior(x, t, label), shared.posterior(*asked)
            for k, v in vars(found).items():
                torch.testing.assert_close(v, vars(alone)[k][own], rtol=1e-9, atol=1e-9)
        for conditional in (False, True):
            curve = fs.stages(oracle, **CURVES, conditional=conditional)
            curves[f"{name}|{conditional}"] = {k: v for k, v in curve.to_dict().items() if k != "provenance"}
np.savez(f"answers-{rank}.npz", **answers)
open(f"curves-{rank}.json", "w").write(json.dumps(curves))
"""


@pytest.fixture(scope="module", params=[2, 3])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Any]]:
    """What the ranks of a job of that size have found: answers of rank 0 and the curves of all."""
    size, folder = request.param, tmp_path_factory.mktemp("ranks")
    for code, _, said in Job(BEGIN + CASES, size, folder).wait():
        assert code == 0, said
    answers = [dict(np.load(folder / f"answers-{rank}.npz")) for rank in range(size)]
    for other in answers[1:]:  # to the last bit
        for name, values in answers[0].items():
            np.testing.assert_array_equal(other[name], values, err_msg=name)
    return answers[0], [json.loads((folder / f"curves-{rank}.json").read_text()) for rank in range(size)]


@pytest.mark.parametrize("name", ["plain", "heavy", "few", "wide"])
def test_answers_are_the_reference(found: tuple[Any, list[Any]], name: str) -> None:
    data, (x, t, y) = make_set(name), states(make_set(name))
    points, weights = data.rows(slice(None)).numpy(), data.relative_weights
    for row in range(len(x)):
        for key, member in (("all", slice(None)), ("label", data.labels == int(y[row]))):
            known = oracle(points[member], x[row].numpy(), float(t[row]), weights=weights[member])
            answer = {k.split("|")[2]: v[row] for k, v in found[0].items() if k.startswith(f"{name}|{key}|")}
            np.testing.assert_allclose(answer["mean"], known.mean, rtol=1e-9, atol=1e-9)
            assert np.linalg.norm(answer["velocity"] - known.velocity) <= 1e-9 * known.scale
            np.testing.assert_allclose(answer["log_density"], known.log_density, rtol=1e-12, atol=1e-9)
            np.testing.assert_allclose(answer["total_variance"], known.total_variance, rtol=1e-9, atol=1e-12)
            copies = np.unique(points[member], axis=0, return_inverse=True)[1].reshape(-1)
            largest = np.sort(np.bincount(copies, weights=known.weights))[::-1]  # of distinct points
            np.testing.assert_allclose(answer["weights"], largest[: len(answer["weights"])], rtol=1e-7, atol=1e-12)
            if key == "all":
                np.testing.assert_allclose(answer["many"], largest[: len(answer["many"])], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", ["plain", "heavy", "few", "wide"])
def test_a_curve_is_that_of_one_process(found: tuple[Any, list[Any]], name: str, conditional: bool) -> None:
    alone = fs.stages(make_set(name), **CURVES, conditional=conditional).to_dict()
    curves = [curves[f"{name}|{conditional}"] for curves in found[1]]
    assert all(curve == curves[0] for curve in curves[1:])
    alone.pop("provenance")
    compare(curves[0], json.loads(json.dumps(alone)))


def compare(found: Any, alone: Any, where: str = "") -> None:
    """Equal to 1e-6, of the largest number of a list."""
    if isinstance(alone, dict):
        assert found.keys() == alone.keys()
        for key in alone:
            compare(found[key], alone[key], f"{where}.{key}")
    elif isinstance(alone, list) and alone and isinstance(alone[0], float):
        scale = max(abs(v) for v in alone if v is not None)
        np.testing.assert_allclose(
            np.array(found, float), np.array(alone, float), rtol=0, atol=1e-6 * scale, err_msg=where
        )
    elif isinstance(alone, list):
        for k, (a, b) in enumerate(zip(found, alone, strict=True)):
            compare(a, b, f"{where}[{k}]")
    elif isinstance(alone, float):
        assert found == pytest.approx(alone, rel=1e-6, abs=1e-9), where
    else:
        assert found == alone, where


@pytest.mark.parametrize("name", ["plain", "heavy", "wide"])
def test_sums_over_any_shares_join_to_those_of_all(name: str) -> None:
    law = Oracle(make_set(name)).support.law()
    which, r = draw_probes(law, range(6), 0), torch.tensor([0.0, 0.05, 0.3, 1.0, 4.0, 50.0], dtype=torch.float64)
    sizes = plan(1 << 20, 6, len(law), law.support.dimension)._replace(points=20)

    def sums(start: int, stop: int) -> PathSums:
        held = PathSums.of_source(6, len(r), r.device)
        list(add_blocks(held, law, which, r, sizes, start, None, stop))
        return held

    whole = sums(0, len(law))
    for cuts in ((1,), (40,), (7, 8, 60), (30, 30, 60), (len(law) - 1,)):
        edges = [0, *cuts, len(law)]
        held = sums(0, edges[1])
        for low, high in pairwise(edges[1:]):
            held = join_sums(held, sums(low, high))
        for key in PathSums._fields:
            a, b = getattr(held, key), getattr(whole, key)
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6 * float(b.abs().max()), err_msg=f"{key} {cuts}")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("count", [1, 2, 6, 7, 1000])
def test_shares_are_all_points_once_and_about_equal(size: int, count: int) -> None:
    ranks = []
    for rank in range(size):
        one = object.__new__(Ranks)
        one.rank, one.size = rank, size
        ranks.append(one.own_range(count))
    assert [i for own in ranks for i in own] == list(range(count))
    lengths = [len(own) for own in ranks]
    assert max(lengths) - min(lengths) <= 1
    assert sum(n > 0 for n in lengths) == min(size, count)
    assert lengths.index(max(lengths)) >= 0 and all(lengths[: min(size, count)])  # the first ranks have them: the tree


def test_ranks_need_a_process_group() -> None:
    with pytest.raises(InputError, match="no process group; expected"):
        Ranks()


TIMEOUTS = """
for bad in (0, -1, True, float("nan"), "60", None):
    try:
        Ranks(timeout=bad)
    except fs.InputError as error:
        assert "expected seconds above 0" in str(error)
    else:
        raise SystemExit(f"{bad} was taken")
"""
REFUSED = """
import flowscope.oracle.distributed.process_group as module
what, points = sys.argv[1], np.arange(12.0).reshape(6, 2)
if what == "versions" and rank == 1:
    found = module.versions()
    module.versions = lambda: found | {"torch": "2.0.1"}
try:
    with Ranks(timeout=20) as ranks:
        if what == "failure" and rank == 2:
            fs.TrainingSet(points * np.inf)
        data = fs.TrainingSet(points + (what == "data" and rank == 1))
        oracle = Oracle(data, "vp" if what == "path" and rank else "linear", ranks=ranks)
        fs.stages(oracle, 3 + (what == "timesteps" and rank == 2), 4)
except fs.FlowscopeError as error:
    open(f"{what}-{rank}.txt", "w").write(f"{type(error).__name__}: {error}")
"""


def test_a_timeout_must_be_one(tmp_path: Path) -> None:
    for code, _, said in Job(BEGIN + TIMEOUTS, 1, tmp_path).wait():
        assert code == 0, said


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("data", 'the ranks differ in their data: digest is "{0}" on ranks 0, 2; "{1}" on rank 1; expected one digest'),
        ("versions", 'torch is "{2}" on ranks 0, 2; "2.0.1" on rank 1'),
        ("path", 'path is "linear" on rank 0; "vp" on ranks 1, 2'),
        (
            "timesteps",
            "timesteps is [0.0, 0.3333333333333333, 0.6666666666666666] on ranks 0, 1; [0.0, 0.25, 0.5, 0.75]",
        ),
        ("failure", "rank 2 on {3} failed: point 0 of points holds nan; expected finite"),
    ],
)
def test_ranks_that_differ_say_so(what: str, said: str, tmp_path: Path) -> None:
    """On every rank, by name and rank; and what has failed on one is told to the others."""
    results = Job(BEGIN + REFUSED, 3, tmp_path, what).wait()
    points = np.arange(12.0).reshape(6, 2)
    digests = [fs.TrainingSet(points + shift).digest for shift in (0, 1)]
    expected = said.format(*digests, torch.__version__, socket.gethostname())
    for rank, (code, _, error) in enumerate(results):
        assert code == 0, error
        text = (tmp_path / f"{what}-{rank}.txt").read_text()
        if (what, rank) == ("failure", 2):
            assert text.startswith("InputError: point 0 of points")
        else:
            assert text.startswith("RankError: ")
            assert expected in text


ASKED = """
from tests.support.rank_sets import CURVES, make_set, states
data = make_set("plain")
x, t, y = states(data)
try:
    with Ranks(timeout=30) as ranks:
        oracle = Oracle(data, ranks=ranks.sharded if sys.argv[1] == "sharded" else ranks)
        getattr(oracle, sys.argv[2])(x + float(sys.argv[3]) * rank, t, *([y] if rank and "label" in sys.argv else []))
except fs.FlowscopeError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("replicated", "velocity", "1"), "differ in the states that they ask for: digest is"),
        (("replicated", "conditions", "1"), "differ in the states that they ask for: digest is"),
        (("sharded", "velocity", "1", "label"), 'differ in their states: labels is "none" on rank 0; "one a state"'),
        (("sharded", "conditions", "1"), "asked of an oracle whose ranks have states of their own"),
    ],
)
def test_states_that_cannot_be_joined_are_refused(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    for _, out, error in Job(BEGIN + ASKED, 2, tmp_path, *arguments).wait():
        assert said in out, (out, error)


PASSING = """
import flowscope.curve.measure as measure
blocks = measure.add_blocks
def slow(*arguments):  # each rank's pass takes long, and says where it is
    for at in blocks(*arguments):
        open(f"at-{rank}-{at}", "w").close()
        open(f"passing-{rank}", "w").close()
        if rank == 1 and os.path.exists("fail"):
            raise ValueError("no such row")
        time.sleep(3600 if rank == 1 and os.path.exists("hang") else 0.1)
        yield at
if sys.argv[1] == "passing":
    measure.add_blocks = slow
try:
    with Ranks(timeout=float(sys.argv[2])) as ranks:
        points = np.random.default_rng(0).standard_normal((4000, 3))
        oracle = Oracle(points, memory="60KB", ranks=ranks)
        open(f"ready-{rank}", "w").close()
        if sys.argv[1] == "waiting" and rank != 1:
            ranks.meet()
        if sys.argv[1] == "waiting":
            time.sleep(3600)
        fs.stages(oracle, 3, 16)
except fs.FlowscopeError as error:
    print(type(error).__name__, error, flush=True)
    os._exit(7)
"""


WAITED_FOR = """
timeout = 3.0
with Ranks(timeout) as ranks:
    if rank == 1:
        time.sleep(2 * timeout)  # as a rank does that reads a slow disk: it lives, and is at no block
    print(*ranks.gather(b"%d" % rank))
"""

GONE = [
    ("passing", "killed"),
    ("passing", "stopped"),
    ("passing", "hangs"),
    ("waiting", "killed"),
    ("waiting", "stopped"),
]
STORE_GONE = ["killed", "stopped"]


def begin_to_end(where: str, end: str, gone: int, size: int, folder: Path) -> Job:
    """A job one of whose ranks is gone, and whose other ranks have not noticed yet."""
    folder.mkdir()
    job = Job(BEGIN + PASSING, size, folder, where, "3")
    until(folder / ("passing-1" if where == "passing" else "ready-1"))
    if end == "hangs":
        (folder / "hang").touch()
    else:
        job.send(gone, signal.SIGKILL if end == "killed" else signal.SIGSTOP)
    return job


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, list[tuple[int, str, str]]]:
    """How ranks end or go on that are left without another, by case: they wait at the same time."""
    folder = tmp_path_factory.mktemp("endings")
    slow = folder / "slow"
    slow.mkdir()
    jobs: dict[Any, tuple[Job, tuple[int, ...]]] = {"slow": (Job(BEGIN + WAITED_FOR, 2, slow), ())}
    for where, end in GONE:
        jobs[where, end] = begin_to_end(where, end, 1, 3, folder / f"{where} {end}"), (0, 2)
    for end in STORE_GONE:
        jobs["store", end] = begin_to_end("passing", end, 0, 2, folder / f"store {end}"), (1,)
    return {case: job.wait(*ranks) for case, (job, ranks) in jobs.items()}


@pytest.mark.parametrize("case", GONE, ids=" ".join)
def test_a_rank_that_is_gone_ends_the_others(case: tuple[str, str], endings: dict[Any, Any]) -> None:
    """After the stated time, whether they compute or wait for it."""
    for code, said, _ in endings[case]:
        assert code == 7
        after = re.match(r"RankError rank 1 has made no progress for (\d+) s; expected some within 3 s.*--resume", said)
        assert after is not None and int(after[1]) >= 3, said


def test_a_rank_that_fails_in_a_pass_tells_the_others_why(tmp_path: Path) -> None:
    job = Job(BEGIN + PASSING, 3, tmp_path, "passing", "30")
    for rank in range(3):
        until(tmp_path / f"passing-{rank}")
    (tmp_path / "fail").touch()
    others = f"RankError rank 1 on {socket.gethostname()} failed: ValueError no such row\n"
    (code, said, _), (failed, _, error), (last, heard, _) = job.wait()
    assert failed == 1 and "ValueError: no such row" in error
    assert (code, said) == (last, heard) == (7, others)


@pytest.mark.parametrize("end", STORE_GONE)
def test_the_store_gone_ends_the_others(end: str, endings: dict[Any, Any]) -> None:
    """Rank 0 is the host of the rendezvous store (MASTER_ADDR)."""
    ((code, said, _),) = endings["store", end]
    assert code == 7
    assert said.startswith("RankError the rendezvous store (MASTER_ADDR)")


def test_a_rank_that_is_slow_and_lives_is_waited_for(endings: dict[Any, Any]) -> None:
    """Which a collective operation with a timeout would not do: it cannot tell it from one that has been stopped."""
    for code, said, error in endings["slow"]:
        assert (code, said) == (0, "b'0' b'1'\n"), error
