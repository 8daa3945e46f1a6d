"""Reproduction: every study of the paper on one's own data, with models trained for it; the studies by name."""
