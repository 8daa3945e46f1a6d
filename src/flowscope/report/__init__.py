"""Report: a study's result becomes figures and one page that explains it."""

from flowscope.report.stages import stages_files, write_stages
from flowscope.report.sweep import sweep_files, write_sweep

__all__ = ["stages_files", "sweep_files", "write_stages", "write_sweep"]
