"""Metrics of samples: Frechet distance, precision and recall, memorised share, nearest neighbours, settle times."""

from flowscope.data.near_copies import hold_out, near_copies
from flowscope.metrics.features import FeatureSpace, features
from flowscope.metrics.frechet import Frechet, frechet
from flowscope.metrics.frequencies import Settling, settle_times, split_frequencies
from flowscope.metrics.memorised import MemorisationIndex, Memorised, memorised
from flowscope.metrics.neighbours import NearestNeighbours, Neighbours, neighbours
from flowscope.metrics.precision_recall import PrecisionRecall, precision_recall

__all__ = [
    "FeatureSpace",
    "Frechet",
    "MemorisationIndex",
    "Memorised",
    "NearestNeighbours",
    "Neighbours",
    "PrecisionRecall",
    "Settling",
    "features",
    "frechet",
    "hold_out",
    "memorised",
    "near_copies",
    "neighbours",
    "precision_recall",
    "settle_times",
    "split_frequencies",
]
