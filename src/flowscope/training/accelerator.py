"""The Accelerator of a training: the one place that uses accelerate."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from flowscope.core.settings import need
from flowscope.errors import InputError, MissingExtraError, unknown_name


def make_accelerator(device: torch.device, precision: str) -> Any:
    """Make an Accelerator for one device, which moves nothing to it by itself.

    accelerate keeps one device and one precision for the whole process and refuses or ignores others. A training may
    follow another with other ones, so they are reset where they differ.

    Raises:
        MissingExtraError: accelerate is not installed.
        InputError: it was started for several processes, or cannot compute in this precision here.
    """
    accelerate = need("accelerate", "train")
    state = need("accelerate.state", "train").AcceleratorState
    if state._shared_state and (state().device.type, state().mixed_precision) != (device.type, precision):
        state._reset_state(reset_partial_state=True)
    try:
        made = accelerate.Accelerator(cpu=device.type == "cpu", mixed_precision=precision, device_placement=False)
    except ValueError as error:
        raise InputError(f"precision is {precision!r} on {device}: {error}; expected another, such as no") from None
    if made.num_processes > 1:
        raise InputError(f"accelerate runs {made.num_processes} processes; expected one: start it without a launcher")
    return made


def check_accelerator(accelerator: Any, device: torch.device, precision: str) -> None:
    """Refuse to go on after another training of this process has changed accelerate's device or precision.

    Raises:
        InputError: they are no longer those of this training.
    """
    if (accelerator.device.type, accelerator.mixed_precision) != (device.type, precision):
        raise InputError(
            f"a training on {device.type} with precision {precision!r} goes on after another began on "
            f"{accelerator.device.type} with {accelerator.mixed_precision!r}; expected them one after the other"
        )


def check_tracker(tracker: str | None, out: str | Path | None) -> None:
    """Refuse a tracker that cannot be used.

    Raises:
        MissingExtraError: the tracker's package is not installed.
        InputError: accelerate has no tracker of this name, or there is no folder for it.
    """
    if tracker is None:
        return
    tracking = need("accelerate.tracking", "train")
    if tracker not in tracking.LOGGER_TYPE_TO_CLASS:
        raise unknown_name("tracker", tracker, (*tracking.LOGGER_TYPE_TO_CLASS, "none"))
    if out is None:
        raise InputError(f"tracker is {tracker!r} without a folder; expected out=...")
    if tracker == "tensorboard":
        need("tensorboard", "train")
    elif tracker not in tracking.get_available_trackers():
        raise MissingExtraError(
            f"tracker is {tracker!r}, whose package is not installed; expected it: install it as accelerate asks for "
            "it, or take tensorboard or none"
        )


def start_tracker(accelerator: Any, tracker: str, out: str | Path | None, settings: dict[str, Any]) -> None:
    """Begin to log to one of accelerate's trackers, in the folder `out`.

    Args:
        accelerator: of the training.
        tracker: the name.
        out: the folder.
        settings: of the training, to be logged.

    Raises:
        MissingExtraError, InputError: as for :func:`check_tracker`.
    """
    check_tracker(tracker, out)
    configuration = need("accelerate.utils", "train").ProjectConfiguration
    accelerator.project_configuration = configuration(project_dir=str(out), logging_dir=str(out))
    accelerator.log_with = [tracker]
    plain = {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in settings.items()}
    accelerator.init_trackers(tracker, config=plain)


@contextmanager
def tf32_matmul(device: torch.device) -> Iterator[None]:
    """Use TensorFloat-32 for matrix products on a GPU for a while; on other devices change nothing."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
