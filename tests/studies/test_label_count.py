"""How many labels a field takes: one answer for the monitor and for the studies."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowscope.data import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import guide, switch
from flowscope.networks import as_field
from flowscope.networks.architectures import build_network
from flowscope.oracle import Oracle
from flowscope.sampling import Counted
from flowscope.studies.bench.variants import take_labels
from flowscope.training import Monitor
from flowscope.training.monitor.evaluate import label_count
from tests.support.toys import toy_points

LABELLED, PLAIN = Oracle(TrainingSet(**toy_points())), Oracle(TrainingSet(toy_points()["points"]))  # type: ignore[arg-type]


def network(classes: int) -> Any:
    return as_field(build_network("mlp", (1, 4, 4), classes, width=8), "flowscope")


def bare(x: Tensor, t: Any, y: Any = None) -> Tensor:
    return -x


class Named(torch.nn.Module):
    classes = ("cat", "dog")


CASES: list[tuple[Any, int]] = [
    (bare, 0),
    (torch.nn.Linear(2, 2), 0),
    (Named(), 2),
    (LABELLED, 3),
    (PLAIN, 0),
    (network(0), 0),
    (network(5), 5),
    (Counted(network(5)), 5),
    (guide(network(5), 2.0), 5),
    (guide(network(5), 2.0, null=network(0)), 5),
    (guide(guide(network(4), 2.0), 3.0), 4),
    (switch(LABELLED, network(3), 0.5), 3),
    (switch(network(3), LABELLED, 0.5), 3),
    (switch(LABELLED, network(0), 0.5), 0),  # the oracle can do without
    (switch(LABELLED, bare, 0.5), 0),
    (switch(LABELLED, LABELLED, 0.5), 3),
    (switch(PLAIN, guide(network(2), 2.0), 0.5), 2),
]


@pytest.mark.parametrize(("field", "expected"), CASES)
def test_labels_are_counted_through_fields_made_of_fields(field: Any, expected: int) -> None:
    assert label_count(field) == expected
    assert take_labels([field]) is (expected > 0)


def test_studies_take_guided_and_plain_models_together() -> None:
    assert take_labels([network(3), guide(network(3), 2.0), LABELLED])
    with pytest.raises(InputError, match="some of the models take labels and some do not"):
        take_labels([network(0), guide(network(3), 2.0)])


def test_the_monitor_gives_labels_to_a_guided_field() -> None:
    """With scale 1 it is the field itself, so that every number is."""
    monitor, field = Monitor(LABELLED, bins=2, probes=8), network(3)
    one, other = monitor(field, 0), monitor(guide(field, 1.0), 0)
    assert one.total == other.total
    assert np.array_equal(one.loss, other.loss)
