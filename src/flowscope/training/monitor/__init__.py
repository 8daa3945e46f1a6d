"""The monitor: how far a network has learned the oracle, during training."""
