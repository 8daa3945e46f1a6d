"""Certified pruning: the points that a posterior can do without, and a proof of it."""
