r"""Wiener: the best linear denoiser, of the set as a whole or of each class. It holds no training point.

The Wiener filter knows the mean m and the covariance C of the training points and nothing else of them:

    D(x) = m + alpha C (alpha^2 C + sigma^2)^-1 (x - alpha m)

It is the posterior mean E[x1|x] if the points were normal with that mean and covariance, and of all affine functions of
x the one with the least mean squared error on the points as they are. C comes from one eigendecomposition
(gaussian.py), by the singular values of the points where there are fewer of them than coordinates.

Class-wise, a label y takes mean and covariance of its own points. Without a label the law is the mixture of the classes
by their weights; the state then tells the class by Bayes' rule, as it does for the oracle.

Cost: the fit takes two passes over the points and min(N, D)^2 max(N, D) operations, once (once for each class that is
asked for). A call takes 4 D min(N, D) multiplications a state, and does not read the points.
"""

from typing import Any

import torch

from flowscope.errors import InputError
from flowscope.oracle.law import Law
from flowscope.paths import Path
from flowscope.references.fit import fit_gaussian
from flowscope.references.gaussian import Gaussian, GaussianDenoiser


class Wiener(GaussianDenoiser):
    """The Wiener filter as a velocity field; see :class:`flowscope.references.denoiser.Denoiser` for its methods.

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        path: "linear", "cosine", "vp", "ve", or a Path.
        by_class: whether a label takes mean and covariance of its own points. If not, labels are checked and change
            nothing.
        memory: budget of a call beyond the fit.
        device: where to compute; None for where the points are.

    Raises:
        InputError: an argument is not usable, the set has no labels for `by_class`, or a covariance does not fit into
            memory.
        NumericalError: a covariance has no eigenvalues that could be found.

    Example:
        >>> import torch
        >>> from flowscope.references import Wiener
        >>> wiener = Wiener(torch.tensor([[-1.0], [1.0]]))  # mean 0, variance 1
        >>> wiener.denoise(torch.tensor([[0.5]]), 0.5).item()  # alpha / (alpha^2 + sigma^2) x
        0.5
    """

    def __init__(
        self,
        training_set: Any,
        path: str | Path = "linear",
        *,
        by_class: bool = False,
        memory: str | int = "512MB",
        device: str | torch.device | None = None,
    ) -> None:
        if not isinstance(by_class, bool):
            raise InputError(f"by_class is {by_class!r}; expected True or False")
        super().__init__(training_set, path, memory=memory, device=device)
        self.by_class = self.uses_labels = by_class
        self.name = "class-wise Wiener" if by_class else "Wiener"
        if by_class:
            self.support.class_laws()  # a set without labels is refused now
        else:
            self.parts(self.support.law())

    def fit(self, law: Law) -> list[Gaussian]:
        """One Gaussian; class-wise and of all points, one for each class."""
        if not self.by_class or law is not self.support.law():
            return [fit_gaussian(law)]
        return [self.parts(c.law)[0]._replace(share=c.share) for c in self.support.class_laws()]
