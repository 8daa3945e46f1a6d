"""LightningMonitor: the monitor as a callback of Lightning, which speaks through the trainer's loggers."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowscope.core.settings import need
from flowscope.errors import InputError
from flowscope.integrations.periodic import PeriodicMonitor, check_whole
from flowscope.training.monitor.measurement import Measurement
from flowscope.training.monitor.monitor import Monitor

__all__ = ["LightningMonitor"]

EXTRA = "lightning"  # of flowscope, which installs it

if TYPE_CHECKING:
    Callback = object
else:
    try:
        from lightning.pytorch import Callback
    except ModuleNotFoundError:  # said when a monitor is made
        Callback = object


class LightningMonitor(Callback):
    """Measures a model while Lightning's Trainer trains it, and logs it through the trainer's loggers.

    At each multiple of `interval` optimizer steps it logs the loss, the floor, the excess, the oracle loss and the
    generalisation gap, each as a mean over t ("flowscope/loss") and by the log-snr of equal parts of time
    ("flowscope/loss/log_snr_-2.197"); and, less often, the memorised share of a few of the model's own samples
    ("flowscope/memorised", with the ends of its 95 % interval). The numbers go to every logger at once, whatever the
    trainer's `log_every_n_steps`, and by `log_dict` to `trainer.callback_metrics`, so that ModelCheckpoint and
    EarlyStopping can follow them. The model is asked in the precision of its weights.

    Args:
        oracle: an Oracle of the training set and path; or the training set, or points (N, *shape), for the linear path.
            Oracle(points, device="cuda") makes one that computes on a GPU.
        held_out: points (M, *shape) that are not trained on, for the gap; None for none.
        model: a function from the LightningModule to what is measured: a VelocityField, or a module called as
            model(x, t, y) that returns the velocity; None if the LightningModule is such a module itself. An example:
            `lambda module: flowscope.as_field(module.unet, convention)`.
        interval: steps between two measurements: at 200 they take under 5 % of the time of training
            (benchmarks/monitor.py).
        samples: how many samples are drawn for the memorised share; 0 for none.
        sampling_steps: Euler steps of each.
        memorised_every: measurements between two of the memorised share, which the first one has.
        options: further arguments of :class:`flowscope.Monitor`: bins, probes, conditional, dropout, seed, batch.

    Attributes:
        measurement: the last one; None before the first, and on processes other than the first.

    Raises:
        MissingExtraError: lightning is not installed.
        InputError: an argument is not usable; or, when training starts, the model is sharded (FSDP, DeepSpeed).

    Example:
        >>> import torch
        >>> from flowscope.integrations.lightning import LightningMonitor
        >>> points = torch.randn(40, 2)
        >>> monitor = LightningMonitor(points[:30], points[30:], samples=0)  # doctest: +SKIP
        >>> trainer = lightning.Trainer(callbacks=[monitor])  # doctest: +SKIP
    """

    def __init__(
        self,
        oracle: Any,
        held_out: Any = None,
        *,
        model: Callable[[Any], Any] | None = None,
        interval: int = Monitor.interval,
        samples: int = 16,
        sampling_steps: int = 16,
        memorised_every: int = 10,
        **options: Any,
    ) -> None:
        need("lightning.pytorch", EXTRA)
        if model is not None and not callable(model):
            raise InputError(
                f"model is a {type(model).__name__}; expected a function from the LightningModule to a field, such as "
                "lambda module: flowscope.as_field(module.unet, convention)"
            )
        self._model = model
        self.measurement: Measurement | None = None
        how = {"interval": interval, "samples": samples, "sampling_steps": sampling_steps}
        self._periodic = PeriodicMonitor(oracle, held_out, **how, memorised_every=memorised_every, **options)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse a strategy that shards the model, and a module without a forward, before anything is trained.

        Raises:
            InputError: it is one.
        """
        if self._model is None and type(pl_module).forward is need("lightning.pytorch", EXTRA).LightningModule.forward:
            raise InputError(
                f"{type(pl_module).__name__} has no forward(x, t, y) that returns the velocity; expected one, or "
                "model=..., a function from it to a field: lambda module: flowscope.as_field(module.unet, convention)"
            )
        names = [kind.__name__ for kind in type(trainer.strategy).__mro__]
        check_whole([*names, "FSDP" if "ModelParallelStrategy" in names else ""], names[0])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure and log the model if it is time to, on the first process."""
        step = trainer.global_step
        if not trainer.is_global_zero or step == 0:
            return
        numbers = self._periodic(pl_module if self._model is None else self._model(pl_module), step)
        if numbers is None:
            return
        self.measurement = numbers.measurement
        for logger in trainer.loggers:
            logger.log_metrics(numbers.row, step)
        pl_module.log_dict(numbers.row, logger=False, on_step=True, on_epoch=False, rank_zero_only=True)
