"""PeriodicMonitor: a monitor that is asked at every step, and answers now and then with numbers for trackers."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from flowscope.core.settings import check_count
from flowscope.errors import InputError
from flowscope.oracle import Oracle
from flowscope.training.monitor.measurement import Measurement
from flowscope.training.monitor.monitor import Monitor

PREFIX = "flowscope"  # of the names under which trackers show the numbers
BY_LOG_SNR = ("loss", "floor", "excess", "oracle_loss", "gap")  # arrays that are logged for each part of time
SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM")  # ways of training in which no process holds the whole model


class Numbers(NamedTuple):
    """What is logged at a step."""

    measurement: Measurement
    row: dict[str, float]  # by name, as trackers take it


class PeriodicMonitor:
    """A :class:`flowscope.Monitor` with its memorised share, asked at every step.

    Args:
        oracle: an Oracle, or what Oracle takes: then it is on the linear path.
        held_out: as for the Monitor.
        interval: steps between two measurements.
        samples: how many samples are drawn for the memorised share; 0 for none.
        sampling_steps: Euler steps of each.
        memorised_every: measurements between two of the memorised share, which the first one has.
        options: further arguments of the Monitor: bins, probes, conditional, dropout, seed, batch.

    Raises:
        InputError: an argument is not usable.
    """

    def __init__(
        self,
        oracle: Any,
        held_out: Any = None,
        *,
        interval: int = Monitor.interval,
        samples: int = 16,
        sampling_steps: int = 16,
        memorised_every: int = 10,
        **options: Any,
    ) -> None:
        self.interval = check_count(interval, "interval")
        self.samples, self.sampling_steps = check_count(samples, "samples", 0), check_count(sampling_steps, "steps")
        self.memorised_every = check_count(memorised_every, "memorised_every")
        made = oracle if isinstance(oracle, Oracle) else Oracle(oracle)
        self.monitor = Monitor(made, held_out, **options)
        self._measured, self._last = 0, -1

    def __call__(self, model: Any, step: int) -> Numbers | None:
        """Measure a model where it is time to: once at each multiple of the interval.

        Raises:
            InputError, NumericalError: as for a call of the Monitor.
        """
        if step % self.interval or step == self._last:
            return None
        found = self.monitor(model, step)
        row = tracker_row(found)
        if self.samples and self._measured % self.memorised_every == 0:
            own = self.monitor.memorised(model, self.samples, self.sampling_steps)
            shares = {"memorised": own.share, "memorised_low": own.low, "memorised_high": own.high}
            shares |= {"memorised_held_out": own.null_share} if own.null_n else {}
            row |= {f"{PREFIX}/{name}": value for name, value in shares.items()}
        self._measured, self._last = self._measured + 1, step
        return Numbers(found, row)


def tracker_row(found: Measurement) -> dict[str, float]:
    """A measurement by names that every tracker takes: means over all t, and the parts of time by their log-snr.

    The first are "flowscope/loss", "flowscope/loss_error" and so on, the others "flowscope/loss/log_snr_-2.197".
    """
    row = {f"{PREFIX}/{name}": value for name, value in found.total.items()}
    for name in BY_LOG_SNR:
        values = getattr(found, name)
        if values is not None:
            pairs = zip(found.log_snr.tolist(), values.tolist(), strict=True)
            row |= {f"{PREFIX}/{name}/log_snr_{snr:.4g}": value for snr, value in pairs}
    return row


def check_whole(kinds: Iterable[str], how: str) -> None:
    """Refuse a way of training in which no process holds the whole model.

    Args:
        kinds: names of the way, in any case of letters.
        how: it is called in the message.

    Raises:
        InputError: one of them shards the model.
    """
    if any(sharded.replace("_", "") in kind.upper().replace("_", "") for kind in kinds for sharded in SHARDED):
        raise InputError(
            f"the model is trained by {how}, where no process holds all of it; expected one process, or several with a "
            "copy each (DDP): measure its checkpoints by flowscope.Monitor"
        )
