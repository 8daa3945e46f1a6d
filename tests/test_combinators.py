"""Fields made of fields: guidance in a part of time, and one field after another."""

import math

import numpy as np
import pytest
import torch

from flowscope import InputError, Oracle, TrainingSet, VelocityField
from flowscope.errors import NumericalError
from flowscope.fields import evaluations, guide, switch
from flowscope.sampling import make_nodes, sample
from tests.reference import oracles
from tests.support.cases import cloud, flat
from tests.support.flows import Recorder

POINTS, LABELS = cloud(60, (3,), dtype=torch.float64), np.arange(60) % 3
ORACLE = Oracle(TrainingSet(POINTS, labels=LABELS))
X = cloud(6, (3,), seed=1, dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 2, 1, 0])
T = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.5, 0.9], dtype=torch.float64)


def other(x, t, y=None):
    """Unlike the oracle in everything."""
    times = torch.as_tensor(t, dtype=torch.float64).reshape(-1, 1)
    return (torch.sin(x) - times + (0 if y is None else torch.as_tensor(y).reshape(-1, 1))).to(x.dtype)


@pytest.mark.parametrize("t", [0.0, 0.37, T], ids=["0", "0.37", "rows"])
def test_guided_oracles_are_the_formula_of_two_oracles(t):
    """u + w (u_y - u) of reference oracles: one of a class alone, one of all points."""
    guided = guide(ORACLE, 2.5)(X, t, Y)
    for label in range(3):
        rows = (label == Y).numpy()
        times = np.broadcast_to(np.asarray(t), 6)[rows]
        whole = oracles(flat(POINTS), flat(X)[rows], times).velocity
        alone = oracles(flat(POINTS)[label == LABELS], flat(X)[rows], times).velocity
        np.testing.assert_allclose(guided[rows], whole + 2.5 * (alone - whole), rtol=1e-9, atol=1e-9)


def test_scale_one_is_the_field_itself_and_costs_nothing():
    field = Recorder(ORACLE)
    for t in (0.2, T):
        assert torch.equal(guide(field, 1.0)(X, t, Y), ORACLE(X, t, Y))
    assert len(field.calls) == 2 and evaluations(guide(ORACLE, 1), 0.5) == 1


@pytest.mark.slow
def test_guidance_is_linear_in_its_scale():
    """Through the unconditional field at 0 and the conditional one at 1."""
    at = {scale: guide(ORACLE, scale)(X, T, Y) for scale in (-1.0, 0.0, 1.0, 2.0, 7.5)}
    torch.testing.assert_close(at[0.0], ORACLE(X, T))
    for scale, u in at.items():
        torch.testing.assert_close(u, at[0.0] + scale * (ORACLE(X, T, Y) - at[0.0]))


@pytest.mark.slow_but("interval1")
@pytest.mark.parametrize("interval", [(0.1, 0.3), (0.0, 0.1), (0.3, 1.0), (0.2, 0.2), (0.0, 1.0)])
def test_the_interval_is_closed_at_its_start_and_open_at_its_end(interval):
    low, high = interval
    inside = torch.tensor([low <= t < high for t in T.tolist()])
    expected = torch.where(inside[:, None], guide(ORACLE, 3.0)(X, T, Y), ORACLE(X, T, Y))
    guided = guide(ORACLE, 3.0, interval)
    torch.testing.assert_close(guided(X, T, Y), expected, rtol=1e-12, atol=1e-12)
    for row, t in enumerate(T.tolist()):  # and one time for all rows says the same
        torch.testing.assert_close(guided(X, t, Y)[row], expected[row], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_steps_of_the_uniform_schedule_fall_into_the_interval_as_the_paper_counts_them():
    """[0.1, 0.3) of 50 steps: those that start at 0.10, 0.12, ..., 0.28."""
    field = Recorder(ORACLE)
    sample(guide(field, 2.5, (0.1, 0.3)), X, steps=50, y=Y)
    guided = [t for t, _, y in field.calls if y is None]
    assert guided == [k / 50 for k in range(5, 15)]


def test_another_null_field_is_asked_without_labels():
    null = Recorder(other)
    guided = guide(ORACLE, 2.0, (0.1, 0.6), null)
    inside = (T >= 0.1) & (T < 0.6)
    expected = torch.where(inside[:, None], 2 * ORACLE(X, T, Y) - other(X, T), ORACLE(X, T, Y))
    torch.testing.assert_close(guided(X, T, Y), expected)
    ((t, x, y),) = null.calls
    assert y is None and torch.equal(x, X[inside]) and torch.equal(t, T[inside])  # only where it is needed


def test_a_weaker_field_is_given_the_labels_where_that_is_said():
    """Autoguidance (arXiv 2406.02507): u_weak(y) + w (u(y) - u_weak(y))."""
    weak = Oracle(TrainingSet(POINTS[:20], labels=LABELS[:20]))
    asked, recorded = guide(ORACLE, 2.0, (0.1, 0.6), weak), Recorder(weak)
    inside = ((T >= 0.1) & (T < 0.6))[:, None]
    for said, labels in ((True, Y), (False, None)):
        base = weak(X, T, labels)
        expected = torch.where(inside, base + 2.0 * (ORACLE(X, T, Y) - base), ORACLE(X, T, Y))
        guided = guide(ORACLE, 2.0, (0.1, 0.6), recorded, null_labels=said)
        torch.testing.assert_close(guided(X, T, Y), expected)
        of_one = guide(ORACLE, 2.0, null=weak, null_labels=said)
        torch.testing.assert_close(guided(X, 0.2, 1), of_one(X, 0.2, torch.ones_like(Y)))
    assert torch.equal(guide(ORACLE, 2.0, null=Oracle(POINTS))(X, 0.2, Y), guide(ORACLE, 2.0)(X, 0.2, Y))
    for y in (Y, None):  # unsaid, the other field's unconditional velocity
        expected = torch.where(inside, 2 * ORACLE(X, T, y) - weak(X, T), ORACLE(X, T, y))
        torch.testing.assert_close(asked(X, T, y), expected)


def test_a_label_may_stand_for_none():
    """Guided away from a label is what a field with that label alone as its null says, in all rows and in some."""
    weak = Recorder(ORACLE)
    for y in (Y, None):
        found = guide(weak, 2.0, (0.1, 0.6), 2)(X, T, y)
        inside = ((T >= 0.1) & (T < 0.6))[:, None]
        torch.testing.assert_close(
            found, torch.where(inside, 2 * ORACLE(X, T, y) - ORACLE(X, T, torch.full_like(Y, 2)), ORACLE(X, T, y))
        )
    assert weak.calls[-1][2].tolist() == [2] * int(inside.sum()) and weak.calls[-1][2].dtype == torch.int64
    assert evaluations(guide(ORACLE, 2.0, null=np.int64(2)), 0.5) == 2 and guide(ORACLE, 2.0, null=2).parts[1] is None


class PerStep:
    """A field that remembers how it was asked: at which times, with which labels."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, y=None):
        self.calls.append((round(float(t), 9), y is None))
        return -x


@pytest.mark.parametrize(("per_step", "guided"), [(False, {0.2, 0.4}), (True, {0.2, 0.4, 0.6})])
def test_guidance_may_be_decided_once_a_step(per_step, guided):
    """Heun's second evaluation is guided by its own time, or as the step's start is."""
    field = PerStep()
    made = guide(field, 2.0, (0.2, 0.5), per_step=per_step)
    sample(switch(made, made, 0.3), X, steps=5, solver="heun", y=Y)
    assert {t for t, null in field.calls if null} == guided
    twice = [t for t, null in field.calls if null]  # 0.2: as an end if it decides itself, and as a start
    assert twice.count(0.2) == (1 if per_step else 2) and twice.count(0.4) == 2


@pytest.mark.parametrize("t", [0.05, 0.2, T], ids=["outside", "inside", "rows"])
def test_guidance_without_labels_would_do_nothing_and_is_refused(t):
    with pytest.raises(InputError, match="does nothing; expected labels y, a null field"):
        guide(ORACLE, 2.0, (0.1, 0.3))(X, t)
    with pytest.raises(InputError, match="does nothing"):
        sample(guide(ORACLE, 2.0, (0.1, 0.3)), X, steps=4)
    assert torch.equal(guide(ORACLE, 1.0)(X, t), ORACLE(X, t))
    torch.testing.assert_close(guide(ORACLE, 2.0, null=other)(X, t), 2 * ORACLE(X, t) - other(X, t))


def test_channels_beyond_those_that_are_guided_are_the_fields_own():
    states = cloud(6, (4, 2), seed=3, dtype=torch.float64)

    def other_images(x, t, y=None):
        return other(x.flatten(1), t, y).reshape(x.shape)

    guided, whole = (guide(other_images, 3.0, (0.1, 0.6), channels=n) for n in (3, None))
    for t in (0.3, T):
        torch.testing.assert_close(guided(states, t, Y)[:, :3], whole(states, t, Y)[:, :3])
        assert torch.equal(guided(states, t, Y)[:, 3:], other_images(states, t, Y)[:, 3:])
    with pytest.raises(InputError, match="channels is 5 for states of shape"):
        guide(other_images, 3.0, channels=5)(states, 0.3, Y)


@pytest.mark.parametrize(("low", "high"), [(1 - 0.9, 0.3), (0.1 + 1e-12, 0.3), (0.1, 0.1 + 0.2), (0.1, 0.3 - 1e-12)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_ends_of_an_interval_do_not_hang_on_rounding(low, high, dtype):
    guided = guide(ORACLE, 3.0, (low, high))
    expected = guide(ORACLE, 3.0)(X[:4], T[:4].to(dtype), Y[:4])
    expected[[0, 3]] = ORACLE(X[[0, 3]], T[[0, 3]].to(dtype), Y[[0, 3]])
    torch.testing.assert_close(guided(X[:4], T[:4].to(dtype), Y[:4]), expected)
    closed = guide(ORACLE, 3.0, (low, high), closed=True)
    assert [evaluations(closed, t) for t in T.tolist()] == [1, 2, 2, 2, 1, 1]
    assert evaluations(guide(ORACLE, 3.0, (0.3, 0.3), closed=True), 0.3) == 2


def test_rows_take_the_field_of_their_time():
    at = 0.3
    expected = torch.stack(
        [(ORACLE if t < at else other)(x[None], t, y[None])[0] for x, t, y in zip(X, T.tolist(), Y, strict=True)]
    )
    torch.testing.assert_close(switch(ORACLE, other, at)(X, T, Y), expected, rtol=1e-12, atol=1e-12)
    for t in (0.29999, 0.3, 0.30001):
        assert torch.equal(switch(ORACLE, other, at)(X, t, Y), (ORACLE if t < at else other)(X, t, Y))
    labels = switch(other, other, at)(X, T, 2)  # one label for all rows
    torch.testing.assert_close(labels, other(X, T, 2))


def test_a_switch_does_not_hang_on_rounding():
    for at, t in ((1 - 0.7, 0.3), (0.3, 1 - 0.7), (0.1 + 0.2, 0.3), (0.3, torch.tensor(0.3))):
        made = switch(ORACLE, other, at)
        assert torch.equal(made(X, t, Y), other(X, t, Y)) and evaluations(made, float(t)) == 1
    low, high = guide(ORACLE, 2.0, (0.0, 0.0)), guide(ORACLE, 2.0, (0.5, 1.0))
    assert [evaluations(field, t) for field in (low, high) for t in (0.0, 1 - 1e-12)] == [1, 1, 1, 2]


def test_at_its_ends_a_switch_is_one_field():
    for t in (0.0, 0.5, T, 1 - 1e-9):
        assert torch.equal(switch(ORACLE, other, 0)(X, t, Y), other(X, t, Y))
        assert torch.equal(switch(ORACLE, other, 1)(X, t, Y), ORACLE(X, t, Y))


def test_sampling_through_a_switch_is_sampling_one_after_the_other():
    nodes = make_nodes(10).tolist()
    whole = sample(switch(ORACLE, other, 0.4), X, steps=10)
    middle = sample(ORACLE, X, timesteps=nodes[:5])
    torch.testing.assert_close(whole, sample(other, middle, timesteps=nodes[4:]), rtol=1e-12, atol=1e-12)


def test_fields_of_fields_of_fields():
    nested = guide(switch(ORACLE, other, 0.4), 2.0, (0.1, 0.6))
    inside = ((T >= 0.1) & (T < 0.6))[:, None]
    early = (T < 0.4)[:, None]
    chosen, null = (torch.where(early, ORACLE(X, T, y), other(X, T, y)) for y in (Y, None))
    torch.testing.assert_close(nested(X, T, Y), torch.where(inside, 2 * chosen - null, chosen))
    switched = switch(guide(ORACLE, 2.0), guide(other, 3.0, (0.0, 0.5)), 0.4)
    expected = torch.where(early, guide(ORACLE, 2.0)(X, T, Y), guide(other, 3.0, (0.0, 0.5))(X, T, Y))
    torch.testing.assert_close(switched(X, T, Y), expected)
    assert isinstance(nested, VelocityField) and isinstance(switched, VelocityField)


def test_evaluations_are_those_that_are_made():
    first, second, null = (Recorder(field) for field in (ORACLE, other, other))
    made = switch(guide(first, 2.0, (0.1, 0.3)), guide(second, 2.0, (0.2, 0.8), null), 0.5)
    for t in (0.0, 0.1, 0.2, 0.3, 0.49, 0.5, 0.79, 0.8, 0.9):
        calls = [field.calls for field in (first, second, null)]
        before = sum(map(len, calls))
        made(X, t, Y)
        assert sum(map(len, calls)) - before == evaluations(made, t), t
    assert [evaluations(made, t) for t in (0.0, 0.1, 0.5, 0.8)] == [1, 2, 2, 1]


def test_what_the_parts_know_is_known():
    for field in (
        guide(ORACLE, 2.0),
        guide(other, 2.0, null=ORACLE),
        switch(other, ORACLE, 0.5),
        switch(ORACLE, other, 0.5),
    ):
        assert field.path is ORACLE.path and field.shape == (3,) and field.device == ORACLE.device
    nothing = switch(other, other, 0.5)
    assert nothing.path is None and nothing.shape is None and nothing.device is None


def test_half_precision_and_gradients_pass_through():
    assert guide(ORACLE, 2.0, (0.1, 0.3))(X.half(), T, Y).dtype == torch.float16
    assert switch(ORACLE, other, 0.3)(X.half(), T, Y).dtype == torch.float16
    x = X.clone().requires_grad_()
    switch(other, guide(other, 2.0), 0.3)(x, T, Y).sum().backward()
    torch.testing.assert_close(x.grad, torch.cos(X))


class Named:
    """A field that gives its path by name."""

    def __init__(self, path):
        self.path = path

    def __call__(self, x, t, y=None):
        return other(x, t, y)


def test_a_path_may_be_given_by_its_name():
    made = switch(ORACLE, Named("linear"), 0.3)
    assert torch.equal(made(X, 0.5), other(X, 0.5)) and made.path is ORACLE.path


REFUSED = {
    "scale NaN": (lambda: guide(ORACLE, math.nan), "scale is nan; expected a finite number"),
    "scale infinite": (lambda: guide(ORACLE, math.inf), "scale is inf; expected a finite"),
    "scale text": (lambda: guide(ORACLE, "2"), "scale is '2'; expected a finite"),
    "scale true": (lambda: guide(ORACLE, True), "scale is True; expected a finite"),
    "interval reversed": (lambda: guide(ORACLE, 2.0, (0.3, 0.1)), "it is reversed"),
    "interval below 0": (lambda: guide(ORACLE, 2.0, (-0.1, 0.3)), r"interval is \(-0.1, 0.3\); expected 0 <= lo"),
    "interval beyond 1": (lambda: guide(ORACLE, 2.0, (0.1, 1.1)), r"interval is \(0.1, 1.1\); expected 0 <= lo"),
    "interval NaN": (lambda: guide(ORACLE, 2.0, (math.nan, 1.0)), r"interval is \(nan, 1.0\)"),
    "interval of one": (lambda: guide(ORACLE, 2.0, (0.1,)), "expected two times"),
    "interval text": (lambda: guide(ORACLE, 2.0, "01"), "interval is '01'; expected two times"),
    "null_labels text": (lambda: guide(ORACLE, 2.0, null=other, null_labels="y"), "null_labels is 'y'; expected True"),
    "null_labels alone": (lambda: guide(ORACLE, 2.0, null_labels=True), "without a null field"),
    "null below 0": (lambda: guide(ORACLE, 2.0, null=-1), "null is -1; expected None, a field, or a label"),
    "null true": (lambda: guide(ORACLE, 2.0, null=True), "null is True; expected None, a field, or a label"),
    "null_labels of a label": (lambda: guide(ORACLE, 2.0, null=1, null_labels=True), "without a null field"),
    "per_step text": (lambda: guide(ORACLE, 2.0, per_step="heun"), "per_step is 'heun'; expected True or False"),
    "null_labels none": (lambda: guide(ORACLE, 2.0, null=other, null_labels=None), "null_labels is None"),
    "closed none": (lambda: guide(ORACLE, 2.0, closed=None), "closed is None; expected True or False"),
    "no channels": (lambda: guide(ORACLE, 2.0, channels=0), "channels is 0; expected how many"),
    "channels true": (lambda: guide(ORACLE, 2.0, channels=True), "channels is True; expected how many"),
    "no field": (lambda: guide(3, 2.0), "field is a int; expected a velocity field"),
    "no null field": (lambda: guide(ORACLE, 2.0, null="none"), "null is a str; expected a velocity field"),
    "null of another path": (
        lambda: guide(ORACLE, 2.0, null=Oracle(POINTS, "cosine")),
        "the null on the cosine path",
    ),
    "switch below 0": (lambda: switch(ORACLE, other, -0.1), "at is -0.1; expected a time"),
    "switch beyond 1": (lambda: switch(ORACLE, other, 1.1), "at is 1.1; expected a time"),
    "switch NaN": (lambda: switch(ORACLE, other, math.nan), "at is nan; expected a time"),
    "switch text": (lambda: switch(ORACLE, other, "0.5"), "at is '0.5'; expected a time"),
    "switch to no field": (lambda: switch(ORACLE, None, 0.5), "second is a NoneType; expected a velocity field"),
    "switch of paths": (
        lambda: switch(ORACLE, Oracle(POINTS, "cosine"), 0.5),
        "the second on the cosine path",
    ),
    "switch of paths by name": (
        lambda: switch(ORACLE, Named("cosine"), 0.5),
        "the second on the cosine path",
    ),
    "guide no batch": (lambda: guide(other, 2.0)(torch.tensor(1.0), 0.5), "x is a tensor of no axes"),
    "guide a list": (lambda: guide(other, 2.0)([1.0, 2.0], 0.5), "x is a list"),
    "switch a list": (lambda: switch(other, other, 0.5)([1.0, 2.0], 0.3), "x is a list"),
    "switch of three labels for six": (
        lambda: switch(ORACLE, ORACLE, 0.3)(X, T, [0, 1, 2]),
        r"expected None or \(6,\)",
    ),
    "switch of labels as text": (
        lambda: switch(ORACLE, ORACLE, 0.3)(X, T, "012012"),
        "None or 6 integer labels",
    ),
    "switch of a label beyond": (
        lambda: switch(ORACLE, ORACLE, 0.3)(X, T, 7),
        "no point has label 7; expected one of",
    ),
    "guide by labels that are not there": (lambda: guide(Oracle(POINTS), 2.0)(X, 0.2, Y), "points has no labels"),
    "t is 1": (lambda: switch(ORACLE, other, 0.5)(X, 1.0), "t is 1.0; expected 0 <= t < 1"),
    "t NaN": (lambda: guide(ORACLE, 2.0)(X, math.nan, Y), "t is nan; expected 0 <= t < 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(name):
    call, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        call()


def conditional_only(x, t, y=None):
    if y is None:
        raise InputError("this network takes labels and knows none for no label")
    return x


def test_a_field_without_an_unconditional_form_is_an_error_where_it_is_needed():
    with pytest.raises(InputError, match="knows none"):
        guide(conditional_only, 2.0, (0.1, 0.3))(X, 0.2, Y)
    assert torch.equal(guide(conditional_only, 2.0, (0.1, 0.3))(X, 0.5, Y), X)


@pytest.mark.parametrize(
    "answer", [lambda x: x[:1], lambda x: x.sum(1, keepdim=True), lambda x: x.flatten(), lambda x: 0.0]
)
def test_answers_of_another_shape_are_not_broadcast(answer):
    def wrong(x, t, y=None):
        return answer(x)

    for made in (
        guide(ORACLE, 2.0, null=wrong),
        guide(wrong, 2.0, null=ORACLE, null_labels=False),
        switch(wrong, ORACLE, 0.3),
        switch(ORACLE, wrong, 0.3),
    ):
        with pytest.raises(InputError, match="expected a velocity for each"):
            made(X, T, Y)
    with pytest.raises(NumericalError, match="NaN"):
        sample(switch(ORACLE, lambda x, t, y: x * math.nan, 0.5), X, steps=4)
