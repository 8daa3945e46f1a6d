"""Settings shared by all tests. What tests use by name is imported from `tests.reference` and its neighbours."""

import os

from hypothesis import HealthCheck, settings

os.environ["MPLBACKEND"] = "Agg"  # no test opens a window

# Repeatable runs by default: the same examples every time. `pytest --hypothesis-profile=explore` looks for new ones.
# Two cores shared by several workers make single examples slow at random, so time is no failure.
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("repeatable", derandomize=True, database=None, **_common)
settings.register_profile("explore", max_examples=500, **_common)
settings.load_profile("repeatable")
