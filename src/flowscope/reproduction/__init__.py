"""Reproduction: every study of the paper on one's own data, with models that are trained for it."""
