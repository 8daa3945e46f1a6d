"""What the fused pass decides by, apart from its kernels, which need Triton."""

from dataclasses import dataclass
from typing import NamedTuple


class Tiles(NamedTuple):
    """Sizes of the kernels' work.

    Attributes:
        points, states, coordinates: of a tile.
        stages: loads under way.
        summed: points a program sums, at most.
        programs: that keep a device busy.
    """

    points: int = 128
    states: int = 128
    coordinates: int = 128
    stages: int = 3
    summed: int = 8192
    programs: int = 512


@dataclass(frozen=True)
class FusedPolicy:
    """What the fused pass decides by.

    Attributes:
        few: states up to which points are read once.
        widest: coordinates of points that registers hold.
        first: points of the first block for few states.
        growth: times all earlier points that the next block for few states has.
        least: points of a block.
        gathered_bytes: of points in float64, added after all, at a time.
        tiles: sizes of the kernels' work; None for those that suit the states and the device.
    """

    few: int = 2
    widest: int = 8192
    first: int = 4096
    growth: int = 8
    least: int = 64
    gathered_bytes: int = 32 << 20
    tiles: Tiles | None = None
