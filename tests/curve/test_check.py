"""The self-check of partition sums sees what it is there to see: each thing is broken once."""

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import flowscope as fs
from flowscope.oracle.law import Law, RawBlock
from tests.support.cases import cloud


class Incomplete(Law):
    """A law of which a pass sees 95 % of the points."""

    def raw_blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[RawBlock]:
        return super().raw_blocks(rows, start, len(self) * 19 // 20)


class Misweighted(Law):
    """A law one of whose points weighs twice what it should in a pass."""

    @cached_property
    def log_weights(self) -> Tensor:
        right = torch.as_tensor(np.log(self.probabilities))
        right[7] += np.log(2)
        return right


class Shifted:
    """A support whose norms are about another centre than the one it names."""

    def __init__(self, support: Any, shift: float) -> None:
        self._support, self.centre = support, support.centre + shift

    def __getattr__(self, name: str) -> Any:
        return getattr(self._support, name)


class Broken:
    """A support with a law that is broken."""

    def __init__(self, support: Any, law: Law) -> None:
        self._support, self._law = support, law

    def law(self) -> Law:
        return self._law

    def __getattr__(self, name: str) -> Any:
        return getattr(self._support, name)


def incomplete(oracle: fs.Oracle) -> Law:
    law = oracle.support.law()
    return Incomplete(law.support, law.chosen, law.probabilities)


def misweighted(oracle: fs.Oracle) -> Law:
    law = oracle.support.law()
    return Misweighted(law.support, law.chosen, law.probabilities)


def shifted(oracle: fs.Oracle) -> Law:
    return dataclasses.replace(oracle.support.law(), support=Shifted(oracle.support, 0.02))


BREAKS = {"the loss of 5 % of the points": incomplete, "a wrong weight": misweighted, "a shifted centre": shifted}
WIDTHS = {"narrow": 6, "wide": 300}  # by float64 and by float32 products


@pytest.mark.slow_but("*-narrow")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", BREAKS)
def test_it_sees(name: str, width: str) -> None:
    oracle = fs.Oracle(cloud(400, (WIDTHS[width],)))
    sound = fs.stages(oracle, 4, 64)
    assert sound.self_check.agrees and not any("self-check fails" in note for note in sound.notes)
    oracle.support = Broken(oracle.support, BREAKS[name](oracle))
    broken = fs.stages(oracle, 4, 64)
    assert broken.self_check.agrees is False and broken.self_check.error > 1e-3
    assert any("self-check fails: a partition sum" in note for note in broken.notes)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_sound_sums_pass(offset: float) -> None:
    """Wherever the points lie, with weights and near-duplicates."""
    points = cloud(200, (40,)).double()
    points = torch.cat([points, points[:50] + 1e-5]) + offset
    found = fs.stages(fs.TrainingSet(points, weights=1 / np.arange(1, 251)), 4, 64)
    assert found.self_check.agrees and found.self_check.error == 0


def test_one_point_passes() -> None:
    assert fs.stages(cloud(1, (3,)), 2, 8).self_check.error == 0
