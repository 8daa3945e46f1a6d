"""AccelerateMonitor: the monitor in a training script of accelerate, which speaks through the script's trackers."""

import warnings
from typing import Any

import torch

from flowscope.core.settings import need
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.integrations.periodic import PeriodicMonitor, check_whole
from flowscope.training.monitor.measurement import Measurement
from flowscope.training.monitor.monitor import Monitor

__all__ = ["AccelerateMonitor"]


class AccelerateMonitor:
    """Measures a model in an accelerate script, and logs it through `accelerator.log` to the trackers of the script.

    Call it after every step: `monitor(model, step)`. At each multiple of `interval` the main process logs the loss, the
    floor, the excess, the oracle loss and the generalisation gap, each as a mean over t ("flowscope/loss") and by the
    log-snr of equal parts of time ("flowscope/loss/log_snr_-2.197"); and, less often, the memorised share of a few of
    the model's own samples ("flowscope/memorised", with the ends of its 95 % interval). Other processes go on.

    Args:
        accelerator: accelerate's Accelerator, with `log_with=...` and after `init_trackers`.
        oracle: an Oracle of the training set and path; or the training set, or points (N, *shape), for the linear path.
            Oracle(points, device="cuda") makes one that computes on a GPU.
        held_out: points (M, *shape) that are not trained on, for the gap; None for none.
        interval: steps between two measurements: at 200 they take under 5 % of the time of training
            (benchmarks/monitor.py).
        samples: how many samples are drawn for the memorised share; 0 for none.
        sampling_steps: Euler steps of each.
        memorised_every: measurements between two of the memorised share, which the first one has.
        options: further arguments of :class:`flowscope.Monitor`: bins, probes, conditional, dropout, seed, batch.

    Raises:
        MissingExtraError: accelerate is not installed.
        InputError: an argument is not usable, or the model is sharded (FSDP, DeepSpeed).

    Example:
        >>> import torch
        >>> from accelerate import Accelerator
        >>> from flowscope.integrations.accelerate import AccelerateMonitor
        >>> accelerator = Accelerator(cpu=True)  # Accelerator(log_with="wandb"), and accelerator.init_trackers("name")
        >>> points = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
        >>> monitor = AccelerateMonitor(accelerator, points[:30], points[30:], samples=0, bins=2, probes=8)
        >>> def model(x, t, y=None):
        ...     return -x
        >>> [monitor(model, step) is None for step in (199, 201)]
        [True, True]
    """

    def __init__(
        self,
        accelerator: Any,
        oracle: Any,
        held_out: Any = None,
        *,
        interval: int = Monitor.interval,
        samples: int = 16,
        sampling_steps: int = 16,
        memorised_every: int = 10,
        **options: Any,
    ) -> None:
        if not isinstance(accelerator, need("accelerate", "train").Accelerator):
            raise InputError(
                f"accelerator is a {type(accelerator).__name__}; expected accelerate's Accelerator: "
                "AccelerateMonitor(accelerator, training_set)"
            )
        way = accelerator.distributed_type.value
        check_whole([way], way)
        self.accelerator = accelerator
        how = {"interval": interval, "samples": samples, "sampling_steps": sampling_steps}
        self._periodic = PeriodicMonitor(oracle, held_out, **how, memorised_every=memorised_every, **options)

    def __call__(self, model: Any, step: int) -> Measurement | None:
        """Measure and log the model if it is time to, on the main process.

        Args:
            model: a VelocityField, or a module called as model(x, t, y) that returns the velocity, prepared by
                accelerate or not. Of a network with other conventions make a field once, before the loop:
                `flowscope.as_field(accelerator.unwrap_model(network), convention)`.
            step: of the training.

        Returns:
            What was measured; None where it was not time to, and on other processes.

        Raises:
            InputError: it is not a model of this oracle's path and shape.
            NumericalError: it returns NaN or infinity.
        """
        if not self.accelerator.is_main_process:
            return None
        whole = self.accelerator.unwrap_model(model) if isinstance(model, torch.nn.Module) else model
        numbers = self._periodic(whole, step)
        if numbers is None:
            return None
        if not self.accelerator.trackers:
            warnings.warn(
                "the accelerator has no trackers, so nothing is logged: Accelerator(log_with='tensorboard', ...) and "
                "accelerator.init_trackers('name') start one; the monitor also returns what it measured",
                FlowscopeWarning,
                stacklevel=2,
            )
        self.accelerator.log(numbers.row, step=step)
        return numbers.measurement
