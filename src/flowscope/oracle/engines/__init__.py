"""Engines: how the moments of a law are computed at some states."""
