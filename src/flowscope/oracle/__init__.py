"""TrainingSet + Path -> the exact posterior, velocity, score and density."""

from flowscope.oracle.distributed.process_group import Ranks
from flowscope.oracle.engines.distributed import SharedOracle
from flowscope.oracle.oracle import Oracle, Posterior

__all__ = ["Oracle", "Posterior", "Ranks", "SharedOracle"]
