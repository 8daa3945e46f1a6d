"""MappedRows is an array to whoever reads it: numpy's own indexing is the truth."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowscope.data.rows.mapped_rows import MappedRows
from flowscope.data.training_set import TrainingSet


@st.composite
def rows_and_truth(draw):
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(lambda s: sum(s) > 0))
    parts = [np.arange(100 * k, 100 * k + 6 * n, dtype=np.int16).reshape(n, 2, 3) for k, n in enumerate(sizes)]
    joined = np.concatenate(parts)
    index = draw(st.none() | st.lists(st.integers(0, len(joined) - 1), min_size=1, max_size=8).map(np.array))
    truth = joined if index is None else joined[index]
    return MappedRows(parts, lambda raw: raw.astype(np.float32) / 2, index), truth.astype(np.float32) / 2


@pytest.mark.slow
@given(rows_and_truth(), st.data())
def test_every_index_means_what_it_means_to_numpy(pair, data):
    rows, truth = pair
    count = len(truth)
    position = st.integers(-count, count - 1)
    which = data.draw(
        st.one_of(
            position,
            st.slices(count),
            st.lists(position, max_size=6).map(lambda p: np.array(p, dtype=np.int64)),
            st.lists(st.booleans(), min_size=count, max_size=count).map(np.array),
            st.tuples(position, st.integers(0, 1)),
            st.tuples(st.slices(count), st.slices(2), st.integers(0, 2)),
            st.just(Ellipsis),
            st.tuples(st.just(Ellipsis), st.integers(0, 2)),
        )
    )
    np.testing.assert_array_equal(rows[which], truth[which], strict=True)


@given(rows_and_truth())
def test_whole_and_tensor_forms_are_the_joined_rows(pair):
    rows, truth = pair
    assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == (truth.shape, truth.dtype, truth.ndim, len(truth))
    np.testing.assert_array_equal(np.asarray(rows), truth)
    np.testing.assert_array_equal(np.asarray(rows, dtype=np.float64), truth.astype(np.float64), strict=True)
    np.testing.assert_array_equal(torch.as_tensor(rows).numpy(), truth)


@pytest.mark.slow
@given(rows_and_truth())
def test_a_training_set_does_not_see_the_cuts(pair):
    rows, truth = pair
    assert TrainingSet(rows).digest == TrainingSet(truth).digest


def test_rows_of_rows_are_rows():
    raw = np.random.default_rng(0).standard_normal((7, 2)).astype(np.float32)
    plain = MappedRows([raw], index=np.array([6, 0, 3]))
    both = MappedRows([plain, MappedRows([raw], np.negative)])
    np.testing.assert_array_equal(both[:], np.concatenate([raw[[6, 0, 3]], -raw]))
    np.testing.assert_array_equal(both[[8, 1]], np.stack([-raw[5], raw[0]]))


@pytest.mark.parametrize(
    ("which", "error", "said"),
    [
        (3, IndexError, "row out of range for 3 rows"),
        (-4, IndexError, "row out of range for 3 rows"),
        ([0, 3], IndexError, "row out of range for 3 rows"),
        ((3, 0), IndexError, "row out of range for 3 rows"),
        ([0.5], IndexError, "not float64"),
        ([[0, 1]], IndexError, r"not int64 \(1, 2\)"),
        ([True, False], IndexError, "2 booleans for 3 rows"),
        ("a", IndexError, "not <U1"),
        (slice("a", None), TypeError, "slice indices must be integers"),
    ],
)
def test_rows_that_are_none_are_refused(which, error, said):
    rows = MappedRows([np.zeros((3, 2), dtype=np.float32)])
    with pytest.raises(error, match=said):
        rows[which]


def test_an_array_without_a_copy_is_refused():
    with pytest.raises(ValueError, match="copy"):
        np.asarray(MappedRows([np.zeros((3, 2), dtype=np.float32)]), copy=False)


def test_read_only_parts_become_tensors():
    raw = np.ones((3, 2), dtype=np.float32)
    raw.flags.writeable = False
    assert torch.as_tensor(MappedRows([raw])).sum() == 6


def test_only_the_rows_asked_for_are_mapped():
    seen = []
    rows = MappedRows([np.zeros((1000, 2), dtype=np.uint8)], lambda raw: (seen.append(len(raw)), raw.astype(float))[1])
    seen.clear()
    rows[10:20], rows[[3, 999]], rows[5]
    assert seen == [10, 2, 1]
