"""Report: a study's result becomes figures and one page that explains it."""

from flowscope.report.stages import write_stages
from flowscope.report.sweep import write_sweep

__all__ = ["write_stages", "write_sweep"]
