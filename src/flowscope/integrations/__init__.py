"""The monitor in other people's training scripts: `accelerate` and `lightning`, each loaded when it is imported."""
