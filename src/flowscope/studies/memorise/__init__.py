"""memorise: when in training the samples of a model become copies, for several numbers of training points."""

from flowscope.studies.memorise.study import WHERE, memorise_study

__all__ = ["WHERE", "memorise_study"]
