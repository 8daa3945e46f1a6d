"""One finding a file: a function from fields and a training set to a frozen result with numbers and their errors."""

from flowscope.studies.ablation import ablation_study
from flowscope.studies.alignment import alignment_study
from flowscope.studies.bench.finding import Finding
from flowscope.studies.capacity import capacity_study
from flowscope.studies.convergence import convergence_study
from flowscope.studies.experts import experts_study
from flowscope.studies.explain import explain_study
from flowscope.studies.guidance import guidance_study
from flowscope.studies.intermediate import intermediate_study
from flowscope.studies.loss import loss_study
from flowscope.studies.memorise import memorise_study
from flowscope.studies.norm import norm_study
from flowscope.studies.refine import refine_study
from flowscope.studies.shift import shift_study
from flowscope.studies.switch import switch_study
from flowscope.studies.target import target_study

__all__ = [
    "Finding",
    "ablation_study",
    "alignment_study",
    "capacity_study",
    "convergence_study",
    "experts_study",
    "explain_study",
    "guidance_study",
    "intermediate_study",
    "loss_study",
    "memorise_study",
    "norm_study",
    "refine_study",
    "shift_study",
    "switch_study",
    "target_study",
]
