"""Report: a study's result becomes figures and one page that explains it."""

from flowscope.report.audit import audit_files
from flowscope.report.finding import finding_files, write_finding
from flowscope.report.info import info_files
from flowscope.report.model import ModelPart
from flowscope.report.reproduction import reproduction_files, write_reproduction
from flowscope.report.stages import stages_files, write_stages
from flowscope.report.sweep import sweep_files, write_sweep
from flowscope.report.training import TrainingPage

__all__ = [
    "ModelPart",
    "TrainingPage",
    "audit_files",
    "finding_files",
    "info_files",
    "reproduction_files",
    "stages_files",
    "sweep_files",
    "write_finding",
    "write_reproduction",
    "write_stages",
    "write_sweep",
]
