"""The monitor: what a network has learned of the oracle, while it is trained."""
