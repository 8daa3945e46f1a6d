"""Plumbing without mathematics: files, forms on disk, settings, memory, devices."""
