"""Thresholds of pruning: counts of points, shares and nats, so that no choice hangs on a clock."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PruningPolicy:
    """When and how points are pruned. Answers keep their proofs whatever the values are; they decide about speed.

    A share is a fraction of the points of a law, from 0 to 1.

    Attributes:
        smallest_law: coordinates (points times dimension) of a law below which every point is taken.
        smallest_kept: coordinates of the points kept from which on the float32 pass serves them.
        sample: points of the law whose exact logits are computed first.
        sample_margin: nats added to log(N / tolerance): points of the sample whose logits lie within that of the
            largest one count as needed.
        state_share: share of the sample needed by a state from which on the state takes every point.
        mean_share: mean of these shares over a batch from which on the batch takes every point.
        union_share: share of the sample that a batch may need, when its likeliest points are known, for pruning to pay.
        dense_states: fraction of the states that take every point from which on all states do.
        batch: states that share the points they keep, at most.
        part: points in a part of the law; the likeliest point of a part stands for it.
        parts: parts whose likeliest point is tried by its exact logit.
        mass_reserve: how many times smaller the mass allowed beforehand is than the tolerance allows.
        predicted: points on which the cascade is tried before it is run.
        kept_share: share of points predicted to be kept from which on every point is taken.
        level_share: share of the points left before a level that it must leave at most, or the level is passed over.
        directions: principal directions, at most; beyond `least_directions` no more than a third of the dimension.
        least_directions: principal directions that are taken whatever the dimension; no more than it.
        levels: numbers of directions after which the cascade may prune; it may after the last in any case.
        group: directions whose part of a logit is bounded together.
    """

    smallest_law: int = 1 << 20
    smallest_kept: int = 2 << 20
    sample: int = 128
    sample_margin: float = 4.0
    state_share: float = 0.2
    mean_share: float = 0.1
    union_share: float = 0.18
    dense_states: float = 0.4
    batch: int = 64
    part: int = 256
    parts: int = 2
    mass_reserve: float = 4.0
    predicted: int = 512
    kept_share: float = 0.3
    level_share: float = 0.5
    directions: int = 1024
    least_directions: int = 256
    levels: tuple[int, ...] = (128, 256, 512)
    group: int = 64
