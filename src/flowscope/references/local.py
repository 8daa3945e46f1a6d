r"""LocalOracle: the posterior over patches of training images. Convolutional networks resemble it.

A network that sees of the state x only a patch about each pixel can do no better than the posterior over the training
patches there. For the pixel q with the patch Omega(q), cut off at the border of the image,

    gamma_i(q) ~ w_i exp( -sum_{r in Omega(q)} |x_r - alpha x1_ir|^2 / (2 sigma^2) )
    E[x1|x]_q = sum_i gamma_i(q) x1_iq

with all channels of a pixel together. Each pixel has a posterior of its own, so that the answer is a mosaic of
training patches and no training image. These are the "local score machine" of Kamb and Ganguli (arXiv 2412.20292) and
the position-wise patches of Niedoba et al. (arXiv 2411.19339). A patch as large as the image is the oracle.

*Equivariant*: a network that is the same at every pixel does not know where it is, but for the border, which it sees.
So the sum runs over the training patches of all positions whose patches are cut off by the border as that of q is: for
a pixel inside, over all positions inside; for one at the left edge, over those at the left edge; a corner has its own
alone. This is the "equivariant local score machine" of arXiv 2412.20292 with a border.

    gamma_{i,q'}(q) ~ w_i exp( -sum_r |x_{q+r} - alpha x1_{i,q'+r}|^2 / (2 sigma^2) )
    E[x1|x]_q = sum_{i,q'} gamma_{i,q'}(q) x1_{i,q'}

It is an oracle whose points are patches, and computed by the Oracle's engines.

The patch may have one side at all times, or a side by t; patches.py has the usual one. Where the side changes with t
the field jumps. It belongs to no density: its "score" is the gradient of none.

Cost of a state: N D exponentials and sums over patches by position (0.1 s for 1,000 images of 32 x 32 in colour, on one
core). Equivariant: N (H W)^2 C p^2 multiplications, and the patches of all positions in memory, once for each side that
is used: for small sets and images. A side as large as the image costs what the oracle costs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowscope.core.surroundings import undisturbed
from flowscope.errors import InputError
from flowscope.fields import check_query
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries
from flowscope.paths import Path, Quantity
from flowscope.references.denoiser import Denoiser
from flowscope.references.patch_posterior import PatchOracles, mean_by_position
from flowscope.references.patches import PatchSchedule, check_images, check_patch

METHODS = {"velocity": "velocity", "data": "denoise", "noise": "noise", "score": "score"}  # of the Oracle


class LocalOracle(Denoiser):
    """The oracle of patches as a velocity field; :class:`flowscope.references.denoiser.Denoiser` has its methods.

    Args:
        training_set: a TrainingSet, or an array or tensor (N, C, H, W) of images.
        path: "linear", "cosine", "vp", "ve", or a Path.
        patch: the side of a patch in pixels, or a function from t, a float, to one; None for the usual one
            (:class:`flowscope.references.patches.PatchSchedule`). The longer side of the image is the whole image.
        equivariant: whether a patch is compared with those of all positions; the border stays the border.
        memory: budget of a call beyond patches that are kept.
        device: where to compute; None for where the points are.

    Raises:
        InputError: an argument is not usable, points are no images, or a patch is larger than they are. A call raises
            it if a function of t gives no side of a patch, or if equivariant patches do not fit into memory.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> from flowscope.references import LocalOracle
        >>> digits = fs.load("digits")
        >>> x = digits.rows(slice(0, 2)) * 0.5
        >>> local = LocalOracle(digits, patch=lambda t: 8 if t < 0.3 else 3)  # up to t = 0.3 the oracle
        >>> torch.equal(local(x, 0.2), fs.Oracle(digits)(x, 0.2)), torch.equal(local(x, 0.5), fs.Oracle(digits)(x, 0.5))
        (True, False)
    """

    name = "local"

    def __init__(
        self,
        training_set: Any,
        path: str | Path = "linear",
        *,
        patch: int | Callable[[float], int] | None = None,
        equivariant: bool = False,
        memory: str | int = "512MB",
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__(training_set, path, memory=memory, device=device)
        check_images(self.shape)
        if not isinstance(equivariant, bool):
            raise InputError(f"equivariant is {equivariant!r}; expected True or False")
        self.equivariant = equivariant
        self.patch = patch
        self._side = 0 if patch is None or callable(patch) else check_patch(patch, self.shape)
        self.schedule = PatchSchedule(self.support.law(), self.shape) if patch is None else None
        self._patches: dict[tuple[Law, int], PatchOracles] = {}

    def patch_sizes(self, t: float | Tensor) -> Tensor:
        """The side of a patch at some times, in pixels; int64 of t's shape."""
        c = self.path(t)
        times, which = torch.unique(c.t, return_inverse=True)
        return torch.tensor([self._patch_size(float(time)) for time in times], device=which.device)[which]

    def _patch_size(self, t: float) -> int:
        if self.schedule is not None:
            return self.schedule(float(self.path(t).snr))
        return check_patch(self.patch(t), self.shape, f"patch at t = {t:.6g}") if callable(self.patch) else self._side

    @undisturbed
    def _mean(self, x: Tensor, t: Any, y: Any, target: Quantity) -> Tensor:
        """A quantity of all states: by patches, and by the oracle where a patch is the image."""
        query = check_query(x, t, y, self.shape)
        whole = (self.patch_sizes(query.t) == max(self.shape[1:])).to(x.device)
        if not bool(whole.any()):
            return super()._mean(x, t, y, target)
        ask = getattr(self.oracle, METHODS[target])
        if bool(whole.all()):
            return ask(x, t, y)
        t, y = query.t.to(x.device), query.y
        out = torch.empty_like(x)
        out[whole] = ask(x[whole], t[whole], None if y is None else y[whole])
        out[~whole] = super()._mean(x[~whole], t[~whole], None if y is None else y[~whole], target)
        return out

    def predict(self, law: Law, queries: Queries) -> tuple[Tensor, Tensor]:
        """The means of the posteriors over patches."""
        data = torch.empty_like(queries.x)
        sizes = self.patch_sizes(queries.path.t)
        for patch in sizes.unique().tolist():
            rows = sizes == patch
            if self.equivariant:
                data[rows] = self._patch_oracles(law, patch)(queries.rows(rows))
            else:
                data[rows] = mean_by_position(law, queries.rows(rows), self.shape, patch, self.memory)
        return data, (queries.x - queries.alpha[:, None] * data) / queries.sigma[:, None]

    def _patch_oracles(self, law: Law, patch: int) -> PatchOracles:
        """The oracles of the patches of a law, made when they are first asked for."""
        if (law, patch) not in self._patches:
            self._patches[law, patch] = PatchOracles(law, self.shape, patch, self.path, self.memory)
        return self._patches[law, patch]
