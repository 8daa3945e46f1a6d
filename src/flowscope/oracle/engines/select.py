"""Which engines an oracle has, in the order in which they are asked whether they suit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

import torch

from flowscope.core.settings import need
from flowscope.oracle.distributed.process_group import Ranks
from flowscope.oracle.engines.accumulator import Accumulate, Float32Accumulator, Float32Policy
from flowscope.oracle.engines.at_noise import NoiseEngine
from flowscope.oracle.engines.base import Engine
from flowscope.oracle.engines.cuda.policy import FusedPolicy
from flowscope.oracle.engines.distributed import DistributedEngine
from flowscope.oracle.engines.float32 import Float32Engine
from flowscope.oracle.engines.float64 import Float64Engine, Float64Policy
from flowscope.oracle.engines.gaussian import GaussianEngine
from flowscope.oracle.engines.matmul import MatmulBackend, products
from flowscope.oracle.engines.pruning.engine import PruningEngine
from flowscope.oracle.engines.pruning.policy import PruningPolicy
from flowscope.oracle.law import Support


@dataclass(frozen=True)
class Policies:
    """What the engines of an oracle decide by."""

    float64: Float64Policy = Float64Policy()
    float32: Float32Policy = Float32Policy()
    fused: FusedPolicy = FusedPolicy()
    pruning: PruningPolicy = PruningPolicy()


def make_engines(
    support: Support,
    memory: int,
    library: str | None = None,
    tolerance: float | None = None,
    ranks: Ranks | None = None,
    policies: Policies = Policies(),
) -> tuple[Engine, ...]:
    """The engines of an oracle; the last suits everything.

    Args:
        support: of the training set.
        memory: the budget in bytes.
        library: of products, by name; None for the one that suits the processor or device.
        tolerance: on the relative velocity error by points that are pruned; None to prune none.
        ranks: that share the points; None for this process alone.
        policies: what the engines decide by.

    Raises:
        InputError: the library does not compute on the support's device.
        MissingExtraError: it is Triton, which is not installed.
    """
    float64 = Float64Engine(memory, library, policies.float64)
    backend, accumulator = _float32_parts(library, support.device, policies.fused)
    float32 = Float32Engine(memory, float64, backend, policies.float32, accumulator)
    engines: tuple[Engine, ...] = (float32, float64)
    if support.own_deviations:
        engines = (GaussianEngine(memory),)
    elif tolerance is not None:
        smallest = max(policies.float32.smallest, policies.pruning.smallest_kept)
        chosen = replace(float32, policy=replace(policies.float32, smallest=smallest))
        pruning = PruningEngine(support, engines, (chosen, float64), tolerance, memory, policies.pruning)
        engines = (pruning, *engines)
    engines = (NoiseEngine(engines), *engines)
    return engines if ranks is None else (DistributedEngine(engines, ranks),)


def _float32_parts(
    library: str | None, device: torch.device, fused: FusedPolicy
) -> tuple[Callable[[], MatmulBackend], Accumulate]:
    """The products of the float32 pass, and what adds up."""
    if library == "triton" or (library is None and device.type == "cuda" and find_spec("triton") is not None):
        need("triton", "gpu")
        from flowscope.oracle.engines.cuda.engine import FusedAccumulator, fused_backend

        by = fused_backend(device)
        return lambda: by, partial(FusedAccumulator, fused=fused)
    products(library, device)  # a library that cannot be used is said now, not at the first call
    return lambda: products(library, device), Float32Accumulator
