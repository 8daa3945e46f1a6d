"""Points in files: read ahead, flat in memory, the same answers; killed at any moment, the same result."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st

import flowscope as fs
from flowscope.curve.checkpoint import ResumeState, pack, unpack
from flowscope.data.rows.file_rows import FileRows, as_file_rows
from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.errors import InputError, ResumeError

RNG = np.random.default_rng(3)
POINTS = RNG.standard_normal((600, 2, 150)).astype(np.float16)
PIXELS = RNG.integers(0, 256, (90, 3, 6, 5), dtype=np.uint8)


def in_file(path: Path, values: np.ndarray) -> np.memmap:
    """The values as a read-only memory map of a file of their own."""
    np.save(path, values)
    return np.load(path, mmap_mode="r")


# reading


@pytest.mark.slow
@given(st.data())
def test_rows_of_a_file_are_the_rows_of_its_map(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = in_file(tmp_path_factory.mktemp("rows") / "a.npy", np.arange(240, dtype=np.int16).reshape(20, 3, 4))
    cut = data.draw(st.slices(20).filter(lambda s: s.step in (None, 1) and len(range(20)[s]) > 0))
    view = whole[cut]
    rows = as_file_rows(view)
    assert isinstance(rows, FileRows)
    which = data.draw(st.one_of(st.slices(len(view)), st.lists(st.integers(0, len(view) - 1)).map(np.array)))
    which = which.astype(np.int64) if isinstance(which, np.ndarray) else which
    np.testing.assert_array_equal(rows[which], np.asarray(view[which]), strict=True)


def test_what_may_differ_from_its_file_is_not_read_from_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS)
    changed = np.load(tmp_path / "a.npy", mmap_mode="c")
    changed[0] = 0
    for values in (changed, POINTS, in_file(tmp_path / "f.npy", np.asfortranarray(POINTS)), changed[[1, 2]]):
        assert as_file_rows(values) is values
    assert not fs.TrainingSet(changed).streamed


def sets(folder: Path) -> dict[str, tuple[fs.TrainingSet, fs.TrainingSet]]:
    """(streamed, in memory) of several kinds."""
    for k in range(3):
        safetensors.numpy.save_file({"points": POINTS[200 * k : 200 * (k + 1)]}, folder / f"{k}.safetensors")
    shards = [in_file(folder / f"{k}.npy", POINTS[200 * k : 200 * (k + 1)]) for k in range(3)]
    pixels = MappedRows([in_file(folder / "p.npy", PIXELS)], lambda raw: raw.astype(np.float32) / 127.5 - 1)
    repeated = np.concatenate([POINTS[:50], -POINTS[:50] * 0, POINTS[20:70]])
    plain = fs.TrainingSet
    return {
        "fp16": (plain(in_file(folder / "h.npy", POINTS)), plain(POINTS)),
        "fp32": (plain(in_file(folder / "s.npy", POINTS.astype(np.float32))), plain(POINTS.astype(np.float32))),
        "shards": (plain(MappedRows(shards)), plain(POINTS)),
        "uint8": (plain(pixels), plain(pixels[:])),
        "repeated": (plain(in_file(folder / "r.npy", repeated)), plain(repeated)),
    }


@pytest.mark.slow_but("fp16", "shards")
@pytest.mark.parametrize("kind", ["fp16", "fp32", "shards", "uint8", "repeated"])
def test_from_a_file_or_in_memory_is_the_same(tmp_path: Path, kind: str) -> None:
    check_same(*sets(tmp_path)[kind])


def check_same(streamed: fs.TrainingSet, kept: fs.TrainingSet) -> None:
    """A set in a file and one in memory have the same points, and the same answers."""
    assert streamed.streamed
    assert not kept.streamed
    assert streamed.digest == kept.digest
    one, other = fs.Oracle(streamed, memory="1MB"), fs.Oracle(kept)
    np.testing.assert_array_equal(one.support.first, other.support.first)
    np.testing.assert_array_equal(one.support.group, other.support.group)
    assert one.support.law().mean_square == pytest.approx(other.support.law().mean_square, rel=1e-9)
    x = torch.randn(5, *kept.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(one(x, 0.3), other(x, 0.3), rtol=1e-9, atol=1e-9)
    curves = [fs.stages(o, timesteps=6, probes=24) for o in (one, other)]
    for name in ("gap", "top1", "entropy", "effective_size"):
        np.testing.assert_allclose(*(getattr(c, name) for c in curves), rtol=2e-6, atol=2e-6)


@pytest.mark.slow
def test_centres_of_samples_are_centres(tmp_path: Path) -> None:
    """The centre of many points in a file is the mean of some of them: nothing that is reported may depend on it."""
    points = np.random.default_rng(4).standard_normal((9000, 7)) + np.linspace(0, 3, 9000)[:, None]
    check_same(fs.TrainingSet(in_file(tmp_path / "many.npy", points)), fs.TrainingSet(points))


@pytest.mark.parametrize(("value", "said"), [(np.nan, "nan"), (np.inf, "inf")])
def test_what_is_not_finite_is_found_on_the_way(tmp_path: Path, value: float, said: str) -> None:
    bad = POINTS.copy()
    bad[417, 1, 3] = value
    with pytest.raises(InputError, match=f"point 417 of points holds {said}; expected finite"):
        fs.TrainingSet(in_file(tmp_path / "bad.npy", bad))


def test_a_file_that_is_cut_or_gone_while_it_is_used_is_an_error(tmp_path: Path) -> None:
    oracle = fs.Oracle(in_file(tmp_path / "a.npy", POINTS))
    whole = (tmp_path / "a.npy").read_bytes()
    os.truncate(tmp_path / "a.npy", len(whole) // 2)
    with pytest.raises(InputError, match="has become shorter while it was in use"):
        fs.stages(oracle, 3, 8)
    points = fs.TrainingSet(in_file(tmp_path / "b.npy", POINTS)).points
    (tmp_path / "b.npy").unlink()
    with pytest.raises(InputError, match="cannot be read any more"):
        fs.TrainingSet(points)


def test_a_budget_too_small_for_one_block_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="raise the memory budget"):
        fs.Oracle(in_file(tmp_path / "a.npy", POINTS), memory=10_000)


MEMORY = r"""
import sys, torch, flowscope as fs, numpy as np
from pathlib import Path

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

def work(points):
    oracle = fs.Oracle(points, memory="32MB")
    oracle(torch.zeros(4, 1024), 0.2)
    fs.stages(oracle, [0.05, 0.2], probes=4)

whole = np.load(sys.argv[1], mmap_mode="r")
work(whole[:5000])  # a sample of 4,096 points is taken of either
before = resident()
work(whole)
print(resident() - before)
"""


@pytest.mark.long
def test_resident_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    out = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float16, (80_000, 1024))  # 164 MB
    generator = np.random.default_rng(0)
    for low in range(0, len(out), 16_000):  # in [0.125, 1)
        out[low : low + 16_000] = generator.integers(0x3000, 0x3C00, (16_000, 1024), dtype=np.uint16).view(np.float16)
    out.flush()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "a.npy")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    # what the allocator keeps of freed blocks and some 85 bytes a point, but not the file
    assert int(done.stdout) < 110e6 + 85 * len(out), done.stdout


# resuming


# Loads all that is needed once; every run is a fork of it, which writes its state after every block. It kills itself at
# one of its moments: after a block, or when a file is about to be renamed.
KILLS = r"""
import json, os, random, signal, sys
import numpy as np
import sklearn.cluster, scipy.interpolate
import flowscope as fs
from flowscope.curve.checkpoint import ResumeState

moments, last = 0, 0

def moment():
    global moments
    moments += 1
    if moments == last:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(lambda event, _: moment() if event == "os.rename" else None)

def run(out, after=0):
    global last
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    last = after
    state = ResumeState(out + ".state", interval=0, clock=lambda: 0.0)
    oracle = fs.Oracle(np.load("points.npy", mmap_mode="r"), memory="6MB")
    curve = fs.stages(oracle, 12, 48, state=state, progress=lambda *_: moment())
    names = ("gap", "gap_error", "top1", "margin", "entropy", "effective_size")
    np.save(out + ".tmp.npy", np.stack([getattr(curve, n) for n in names]))
    if out == "whole":
        open("moments", "w").write(str(moments))
    os.rename(out + ".tmp.npy", out + ".npy")
    state.remove()
    os._exit(0)

codes = [run("whole")]
moments_of_a_run = int(open("moments").read())
random.seed(0)
whole = open("whole.npy", "rb").read()
same = []
while codes.count(-9) < 10 or codes[-1] == -9:  # the last run is left to end
    after = random.randrange(1, moments_of_a_run // 2) if codes.count(-9) < 10 else 0
    codes.append(run("killed", after))
    if codes[-1] == 0:
        same.append(open("killed.npy", "rb").read() == whole)
print(json.dumps([codes, moments_of_a_run, same, sorted(os.listdir())]))
"""


@pytest.mark.long
def test_killed_at_ten_random_moments_the_curve_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(1).standard_normal((5000, 300)).astype(np.float16))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    codes, moments, same, left = json.loads(done.stdout)
    assert moments > 10
    assert codes.count(-9) == 10
    assert set(codes) == {0, -9}
    assert same
    assert all(same)
    assert left == ["killed.npy", "moments", "points.npy", "whole.npy"]  # no state, nor halves of one


class Interrupted(BaseException):
    """Stands for a kill: nothing in the library catches it."""


def stopped(oracle: fs.Oracle, state: ResumeState) -> None:
    """Run a curve until its second block, and write what is done."""

    def stop(done: int, total: int) -> None:
        if done * 3 > total:
            raise Interrupted

    with pytest.raises(Interrupted):
        fs.stages(oracle, 4, 8, progress=stop, state=state)
    state.write()


@pytest.mark.slow
def test_the_library_of_a_resumed_run_is_used_again(tmp_path: Path) -> None:
    points = in_file(tmp_path / "a.npy", RNG.standard_normal((3000, 300)).astype(np.float32))
    first, second = (fs.Oracle(points, memory="4MB", library=name) for name in ("numpy", "torch"))
    whole = fs.stages(first, 4, 8)
    stopped(first, ResumeState(tmp_path / "state.npz"))
    resumed = fs.stages(second, 4, 8, state=ResumeState(tmp_path / "state.npz"))
    for name in ("gap", "top1", "entropy"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(resumed, name))


def test_other_threads_or_blocks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = in_file(tmp_path / "a.npy", RNG.standard_normal((3000, 300)).astype(np.float32))
    stopped(fs.Oracle(points, memory="4MB"), ResumeState(tmp_path / "state.npz"))
    threads = torch.get_num_threads()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: threads + 1)
        with pytest.raises(ResumeError, match=f"differs in threads.*OMP_NUM_THREADS={threads} "):
            fs.stages(fs.Oracle(points, memory="4MB"), 4, 8, state=ResumeState(tmp_path / "state.npz"))
    with pytest.raises(ResumeError, match="differs in block, memory"):
        fs.stages(fs.Oracle(points, memory="2MB"), 4, 8, state=ResumeState(tmp_path / "state.npz"))


def test_sums_of_an_older_form_are_refused(tmp_path: Path) -> None:
    oracle, path = fs.Oracle(RNG.standard_normal((3000, 300)).astype(np.float32), memory="4MB"), tmp_path / "state.npz"
    stopped(oracle, ResumeState(path))
    with path.open("rb") as stream:
        identity, groups = unpack(stream)
    path.write_bytes(pack(identity | {"form": identity["form"] - 1}, groups))
    with pytest.raises(ResumeError, match="differs in form"):
        fs.stages(oracle, 4, 8, state=ResumeState(path))
