"""References: analytic denoisers to hold a network against, each a velocity field whose memory is known."""

from flowscope.references.ladder import Ladder, Reference, ladder
from flowscope.references.local import LocalOracle
from flowscope.references.mixture import GaussianMixture
from flowscope.references.smoothed import SmoothedOracle
from flowscope.references.wiener import Wiener

__all__ = ["GaussianMixture", "Ladder", "LocalOracle", "Reference", "SmoothedOracle", "Wiener", "ladder"]
