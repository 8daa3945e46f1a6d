"""TrainingSet + Path -> the exact posterior, velocity, score and density."""

from flowscope.oracle.oracle import Oracle, Posterior
from flowscope.oracle.ranks import Ranks
from flowscope.oracle.shared import SharedOracle

__all__ = ["Oracle", "Posterior", "Ranks", "SharedOracle"]
