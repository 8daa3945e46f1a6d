"""Run: a training between two steps, and the step."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowscope.core.device import resolve_device
from flowscope.core.settings import versions
from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import InputError, NumericalError
from flowscope.fields import check_shape
from flowscope.networks.architectures import MAX_CLASSES, build_network
from flowscope.networks.call_styles import call_state_first, first_output
from flowscope.networks.field import NetworkField
from flowscope.oracle import Oracle
from flowscope.paths import get_path
from flowscope.training.accelerator import check_accelerator, make_accelerator, start_tracker, tf32_matmul
from flowscope.training.buffers import check_buffers
from flowscope.training.draws import Draw, Draws, seeded_modules, to_device
from flowscope.training.ema import make_average, update_average, without_compiler
from flowscope.training.labels import check_labels_arrive, own_label_dropout_off, warn_of_own_dropout
from flowscope.training.losses import Losses
from flowscope.training.model_store import SCHEMA, trained_field
from flowscope.training.settings import TrainSettings
from flowscope.training.targets import make_target


class Run:
    """A training between two steps.

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        settings: what is trained and how.
        network: a module to train in place; None to build one.
        device: where to train; None for "cuda" where there is one, else "cpu".
        held_out: what model.json says of points that were set aside.
        source: where the points came from and how they were loaded, for model.json; None where that is not known.

    Attributes:
        classes: one more than the largest label; 0 without labels.
        labels: those that occur, where some below the largest do not; else None.
        null: the network's label for none; None where it has none.
        notes: what was decided of the network, in sentences.
        network: the network, in train mode.
        ema: its averaged copy, in eval mode.
        optimizer: torch's AdamW.
        losses: the record so far.
        step: updates made.
        seconds: of training before this process resumed it.
    """

    def __init__(
        self,
        training_set: Any,
        settings: TrainSettings,
        *,
        network: nn.Module | None = None,
        device: str | torch.device | None = None,
        held_out: dict[str, Any] | None = None,
        source: dict[str, Any] | None = None,
    ) -> None:
        self.settings, self.training_set = settings, as_training_set(training_set)
        self.shape, self.path = self.training_set.shape, get_path(settings.path)
        self.held_out, self.source = held_out or {"count": 0}, source
        self.device = resolve_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.classes = count_classes(self.training_set)
        self.labels = None if len(self.training_set.classes) == self.classes else list(self.training_set.classes)
        self.custom_network = custom_name(network)
        if network is None:
            network = build_network(settings.model, self.shape, self.classes, width=settings.width, seed=settings.seed)
        self.accelerator = make_accelerator(self.device, settings.precision)
        self.network: nn.Module = without_compiler(network).to(self.device).train()
        on_gpu = self.device.type == "cuda"
        if on_gpu and len(self.shape) == 3:
            self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.null = check_labels_arrive(self.network, self.classes, settings.label_dropout, self.shape)
        self.notes = warn_of_own_dropout(self.network, settings.label_dropout) if self.classes else ()
        self.ema = make_average(self.network)
        if self.custom_network is not None:
            label = self.null if self.null is not None else 0 if self.classes else None
            check_buffers(self.network, self.ema, self.shape, label)
        compiled = without_compiler(network) is not network
        self.forward: Any = network if compiled else torch.compile(self.network) if settings.compile else self.network
        weights, decay = self.network.parameters(), settings.weight_decay
        self.optimizer = torch.optim.AdamW(weights, settings.peak_learning_rate, weight_decay=decay, fused=on_gpu)
        self.draws = Draws(self.training_set, settings, self.device)
        oracle = None if settings.target == "cfm" else Oracle(self.training_set, self.path, device=self.device)
        self.target = make_target(settings, oracle)
        self.losses = Losses(settings.steps, self.device)
        self.step, self.seconds = 0, 0.0
        self._began = time.monotonic()

    def advance(self) -> tuple[Tensor, float]:
        """Make one update of the weights; return the loss of its batch, on the device, and the learning rate."""
        check_accelerator(self.accelerator, self.device, self.settings.precision)
        draw, learning_rate = self.draws(self.step), learning_rate_at(self.settings, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        with tf32_matmul(self.device), seeded_modules(self.settings, self.step, self.device):
            errors = self.squared_errors(draw)
            loss = errors.mean()
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.settings.grad_clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        update_average(self.ema, self.network, self.settings.ema, self.step)
        self.losses.add(errors.detach(), draw.t)
        if self.losses.due(self.step):
            self._record(learning_rate)
        return loss.detach(), learning_rate

    def squared_errors(self, draw: Draw) -> Tensor:
        """(B,) squared errors of the network's prediction, means over coordinates."""
        c = self.path(draw.t)
        parts = torch.stack([c.alpha, c.sigma, c.d_alpha, c.d_sigma, 1000 * draw.t]).to(torch.float32)
        *weights, timestep = to_device(parts, self.device)
        alpha, sigma, d_alpha, d_sigma = (w.reshape(-1, *[1] * len(self.shape)) for w in weights)
        x = alpha * draw.x1 + sigma * draw.x0
        target = self.target(self.step, draw, x, d_alpha * draw.x1 + d_sigma * draw.x0)
        with self.accelerator.autocast(), own_label_dropout_off(self.network):
            found = first_output(call_state_first(self.forward, x, timestep, self._labels(draw), {}))
        return (check_shape(found, x, "the network").to(torch.float32) - target).square().flatten(1).mean(1)

    def _labels(self, draw: Draw) -> Tensor | None:
        if draw.y is not None:
            y = draw.y if self.null is None else torch.where(draw.y < 0, self.null, draw.y)
            return to_device(y, self.device)
        if self.null is None:
            return None
        return torch.full((len(draw.t),), self.null, dtype=torch.int64, device=self.device)

    def _record(self, learning_rate: float) -> None:
        """Close a row of the losses, which waits for the device, and log it."""
        loss = self.losses.close(self.step, learning_rate, self.elapsed())
        if not math.isfinite(loss):
            raise NumericalError(
                f"the loss is {loss} at step {self.step}; expected a finite one: check the data, or train anew with a "
                f"lower learning rate (it is {self.settings.peak_learning_rate:g}) or a longer warm-up"
            )
        self.accelerator.log({"loss": loss, "rate": learning_rate}, step=self.step)

    def track(self, tracker: str | None, out: str | Path | None) -> None:
        """Begin to log to one of accelerate's trackers; None for none."""
        if tracker is not None:
            start_tracker(self.accelerator, tracker, out, self.settings.to_dict())

    def end(self) -> None:
        """Close the trackers."""
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def resume(self, step: int, seconds: float) -> None:
        """Continue after `step` updates that took `seconds`."""
        self.step, self.seconds, self._began = step, seconds, time.monotonic()

    def elapsed(self) -> float:
        """Seconds of training, including those before it was resumed."""
        return self.seconds + time.monotonic() - self._began

    def field(self, network: nn.Module) -> NetworkField:
        """One of the two networks as a velocity field."""
        return trained_field(network, self.about(), self.settings.model)

    def about(self) -> dict[str, Any]:
        """The content of model.json without the digests of the weights."""
        names = self.training_set.class_names
        return identity(self.training_set, self.settings, self.held_out, self.custom_network) | {
            "shape": list(self.shape),
            "classes": self.classes,
            "labels": self.labels,
            "notes": list(self.notes),
            "source": self.source,
            "class_names": None if names is None else {str(label): name for label, name in names.items()},
            "step": self.step,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "seconds": self.elapsed(),
            "device": self.device.type,
            "versions": versions(),
        }


def identity(
    training_set: TrainingSet, settings: TrainSettings, held_out: dict[str, Any], network: str | None
) -> dict[str, Any]:
    """The identity of a run: two runs with the same identity end with the same weights.

    Args:
        training_set: without the points that were set aside.
        settings: what is trained and how.
        held_out: what model.json says of points that were set aside.
        network: the class of the user's own network; None for one of flowscope's.
    """
    s = training_set
    return {
        "schema": SCHEMA,
        "settings": settings.to_dict(),
        "network": network,
        "held_out": held_out,
        "training_set": {
            "name": s.name,
            "points": len(s),
            "digest": s.digest,
            "normalisation": s.normalisation,
            "labels": s.labels is not None,
            "weights": s.weights is not None,
        },
    }


def custom_name(network: nn.Module | None) -> str | None:
    """The class of the user's own network; None where there is none."""
    return None if network is None else type(without_compiler(network)).__name__


def learning_rate_at(settings: TrainSettings, step: int) -> float:
    """The learning rate of update `step`, counted from 0: linear warm-up, then constant or half a cosine down to 0."""
    if step < settings.warmup:
        return settings.peak_learning_rate * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.peak_learning_rate
    share = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def count_classes(training_set: TrainingSet) -> int:
    """One more than the largest label, so that network and oracle share their labels; 0 without labels.

    Raises:
        InputError: a label is negative or not below MAX_CLASSES.
    """
    if training_set.labels is None:
        return 0
    low, high = int(training_set.labels.min()), int(training_set.labels.max())
    if low < 0 or high >= MAX_CLASSES:
        raise InputError(
            f"labels go from {low} to {high}; a network has an embedding for each from 0 to the largest: expected "
            f"labels from 0 to {MAX_CLASSES - 1}, as few as there are classes"
        )
    return high + 1
