"""State: whole or not at all, of one computation only, and not written too often."""

import io
import json
import random
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from flowscope.curve.checkpoint import ResumeState, pack, unpack
from flowscope.errors import OutputError, ResumeError

IDENTITY = {"training_set": "3f", "timesteps": [0.0, 0.1, 1 / 3], "probes": 8, "label": None}


def written(path: Path, **arrays: list[float]) -> ResumeState:
    """A state with one group on disk."""
    state = ResumeState(path)
    state.open(IDENTITY)
    state.keep("group", {name: np.array(values) for name, values in arrays.items()})
    state.write()
    return state


def reopened(path: Path, **changes: object) -> ResumeState:
    state = ResumeState(path)
    state.open({**IDENTITY, **changes})
    return state


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    arrays = {"sums": np.random.default_rng(0).standard_normal((3, 2)), "at": np.array(7), "none": np.empty((0, 2))}
    state = ResumeState(tmp_path / "state.npz")
    state.open(IDENTITY)
    for name in ("current", "part 0", "part 1"):
        state.keep(name, arrays)
    state.drop("part 1")
    state.drop("never there")
    state.write()
    again = reopened(tmp_path / "state.npz")
    for group in ("current", "part 0"):
        found = again.get(group)
        assert found is not None
        assert found.keys() == arrays.keys()
        for name, values in arrays.items():
            np.testing.assert_array_equal(found[name], values)
            assert found[name].dtype == values.dtype
    assert again.get("part 1") is None


def test_nothing_is_there_at_first_and_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    state = reopened(tmp_path / "state.npz")
    assert state.get("group") is None
    state.write()
    state.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [{"training_set": "40"}, {"timesteps": [0.0, 0.1]}, {"probes": 9}, {"probes": 8.5}, {"label": 0}, {"more": 1}],
)
def test_another_computation_is_refused_and_the_file_stays(tmp_path: Path, changes: dict[str, object]) -> None:
    written(tmp_path / "state.npz", x=[1.0])
    before = (tmp_path / "state.npz").read_bytes()
    with pytest.raises(ResumeError, match=rf"differs in {next(iter(changes))}.*; expected .* without --resume"):
        reopened(tmp_path / "state.npz", **changes)
    assert (tmp_path / "state.npz").read_bytes() == before


def test_another_version_is_another_computation(tmp_path: Path) -> None:
    written(tmp_path / "state.npz", x=[1.0])
    with (tmp_path / "state.npz").open("rb") as stream:
        identity, groups = unpack(stream)
    (tmp_path / "state.npz").write_bytes(pack(identity | {"version": "0.0.1"}, groups))
    with pytest.raises(ResumeError, match="differs in version"):
        reopened(tmp_path / "state.npz")


def test_without_resume_the_file_is_deleted(tmp_path: Path) -> None:
    written(tmp_path / "state.npz", x=[1.0])
    state = ResumeState(tmp_path / "state.npz", resume=False)
    assert (tmp_path / "state.npz").exists()  # not before it is known that the run can begin
    state.open({**IDENTITY, "probes": 9})
    assert state.get("group") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_damaged_file_is_refused_or_whole(tmp_path: Path) -> None:
    """Cut off or with bytes changed anywhere: never a traceback, never other numbers."""
    path, rng = tmp_path / "state.npz", random.Random(0)
    written(path, x=[1.0, 2.0])
    good = path.read_bytes()
    refused = 0
    for _ in range(300):
        bad = bytearray(good[: rng.randrange(len(good))] if rng.random() < 0.3 else good)
        for _ in range(rng.randrange(1, 4)):
            if bad:
                bad[rng.randrange(len(bad))] = rng.randrange(256)
        path.write_bytes(bad)
        try:
            found = reopened(path).get("group")
        except ResumeError:
            refused += 1
            continue
        if found is not None and "x" in found:
            np.testing.assert_array_equal(found["x"], [1.0, 2.0])
    assert refused > 200


def test_no_code_in_a_state_runs(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.mkdir, (tmp_path / "sprung",)  # type: ignore[return-value]

    stream = io.BytesIO()
    text = json.dumps(IDENTITY | {"version": version("flowscope")})
    identity = np.frombuffer(text.encode(), dtype=np.uint8)
    np.savez(stream, allow_pickle=True, identity=identity, **{"group|x": np.array([Trap()], dtype=object)})
    (tmp_path / "state.npz").write_bytes(stream.getvalue())
    with pytest.raises(ResumeError, match="or remove it to start anew"):
        reopened(tmp_path / "state.npz")
    assert not (tmp_path / "sprung").exists()


def test_it_is_written_when_the_interval_is_over(tmp_path: Path) -> None:
    clock = [100.0]
    state = ResumeState(tmp_path / "state.npz", interval=20, clock=lambda: clock[0])
    state.open(IDENTITY)
    on_disk = []
    for second in range(45):
        clock[0] = 100.0 + second
        state.keep("group", {"second": np.array(second)})
        found = reopened(tmp_path / "state.npz").get("group")
        on_disk.append(None if found is None else int(found["second"]))
    assert on_disk == [None] * 20 + [20] * 20 + [40] * 5


def test_slow_writing_is_rarer(tmp_path: Path) -> None:
    """A state that takes 3 s to write costs a twentieth of the time at most."""
    path, now, writings = tmp_path / "state.npz", [0.0], [b""]

    def clock() -> float:
        if path.exists() and path.read_bytes() != writings[-1]:
            writings.append(path.read_bytes())
            now[0] += 3
        return now[0]

    state = ResumeState(path, interval=20, clock=clock)
    state.open(IDENTITY)
    while now[0] < 1000:
        now[0] += 1
        state.keep("group", {"second": np.array(now[0])})
    assert 10 <= len(writings) - 1 <= 1000 / 18 / 3


def test_it_does_not_grow(tmp_path: Path) -> None:
    state = written(tmp_path / "state.npz", x=[1.0])
    before = (tmp_path / "state.npz").stat().st_size
    for k in range(5):
        state.keep("group", {"x": np.array([float(k)])})
        state.write()
    again = reopened(tmp_path / "state.npz")
    again.write()
    assert (tmp_path / "state.npz").stat().st_size == before
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]


def test_a_writing_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = written(tmp_path / "state.npz", x=[1.0])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    state.keep("group", {"x": np.array([2.0])})
    with monkeypatch.context() as patch:
        patch.setattr("flowscope.core.files.os.fsync", full)
        with pytest.raises(OutputError, match="no space left"):
            state.write()
    found = reopened(tmp_path / "state.npz").get("group")
    assert found is not None
    assert found["x"] == [1.0]
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]


def test_the_end_removes_it(tmp_path: Path) -> None:
    state = written(tmp_path / "state.npz", x=[1.0])
    state.remove()
    state.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_leaves_the_last_state(small_disk: Path) -> None:
    state = written(small_disk / "state.npz", x=[1.0])
    state.keep("group", {"x": np.zeros(1 << 15)})
    with pytest.raises(OutputError, match="no space left on device; expected") as caught:
        state.write()
    assert "\n" not in str(caught.value)
    assert [p.name for p in small_disk.iterdir()] == ["state.npz"]
    found = reopened(small_disk / "state.npz").get("group")
    assert found is not None
    assert found["x"] == [1.0]


def test_other_threads_are_refused_with_what_to_do(tmp_path: Path) -> None:
    state = ResumeState(tmp_path / "state.npz")
    state.open({**IDENTITY, "threads": 2})
    state.keep("group", {"x": np.zeros(1)})
    state.write()
    with pytest.raises(
        ResumeError, match=r"differs in threads \(2 there, 1 here\).* OMP_NUM_THREADS=2 .* without --resume"
    ):
        reopened(tmp_path / "state.npz", threads=1)
