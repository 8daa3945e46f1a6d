"""Loaders: one file for each format, and for the sets that come by name."""
