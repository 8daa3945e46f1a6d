"""Equations (3) to (5): the posterior of one block of points, and how blocks are joined."""
