"""Sampling: schedules, solvers, and sample() over a generator of named steps."""
