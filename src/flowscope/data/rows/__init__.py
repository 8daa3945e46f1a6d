"""Rows of points that stay where they are stored and are read and mapped as they are asked for."""
