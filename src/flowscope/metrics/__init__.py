"""Metrics of samples: distances, precision and recall, memorisation with its null, layout against detail."""
