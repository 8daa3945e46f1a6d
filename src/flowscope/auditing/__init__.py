"""Auditing: are samples copies of training points? Which ones, and how well would copies be found?"""

from flowscope.auditing.result import Audit, Pair
from flowscope.auditing.run import audit

__all__ = ["Audit", "Pair", "audit"]
