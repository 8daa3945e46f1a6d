"""Labels on their way from the points to the network: that each reaches it, and that they are dropped once."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flowscope.errors import FlowscopeWarning, InputError
from flowscope.networks.call_styles import call_state_first
from flowscope.networks.eval_mode import eval_mode
from flowscope.networks.labels import kind_of, read_labels

PROBE_TIMESTEP = 500.0  # of the call that tries the null label


def check_labels_arrive(network: nn.Module, classes: int, label_dropout: float, shape: tuple[int, ...]) -> int | None:
    """The network's label for none, after a check that every label of the data reaches the network.

    Args:
        network: called as network(x, 1000 t, y).
        classes: how many labels the points have, 0 for none.
        label_dropout: the share of labels to be replaced by that for none.
        shape: of a point.

    Raises:
        InputError: the network does not say that it takes labels, has too few, or none for no label.
    """
    known, kind = read_labels(network, True), kind_of(network)
    if classes and not known.classes:
        raise InputError(
            f"the points have labels 0 to {classes - 1}, and the {kind} does not say that it takes any, so they would "
            f"never reach its forward; expected an attribute num_classes = {classes} (the label {classes} then stands "
            "for no label), or points without labels: TrainingSet(points)"
        )
    if known.classes is not None and known.classes < classes:
        raise InputError(
            f"labels go up to {classes - 1}, the network has {known.classes} classes; expected at least {classes}"
        )
    if classes and known.null is None and label_dropout > 0:
        raise InputError(
            f"label_dropout is {label_dropout:g}, and the {kind} has no embedding for no label; expected one more than "
            f"its {known.classes} classes (SiT: class_dropout_prob above 0 when it is built), or label_dropout=0"
        )
    if known.null is not None and (label_dropout > 0 or not classes):
        _try_null_label(network, known.null, shape)
    return known.null


@torch.no_grad()
def _try_null_label(network: nn.Module, null: int, shape: tuple[int, ...]) -> None:
    """Refuse a network that can be called with the label 0 and not with that for none."""
    network = getattr(network, "_orig_mod", network)  # torch.compile need not compile this call
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(0, device="cpu"))
    if like.device.type == "meta":
        return

    def call(label: int) -> None:
        x, y = like.new_zeros(1, *shape), torch.tensor([label], device=like.device)
        call_state_first(network, x, x.new_full((1,), PROBE_TIMESTEP), y, {})

    devices = [like.device] if like.device.type == "cuda" else []
    with eval_mode(network), torch.random.fork_rng(devices=devices), ExitStack() as hooks:
        for table in (m for m in network.modules() if isinstance(m, nn.Embedding)):  # on a GPU it would end the process
            hooks.callback(table.register_forward_pre_hook(_check_rows).remove)
        try:
            call(0)
        except (IndexError, RuntimeError, TypeError, ValueError):
            return  # of another reason, which training meets in its own words
        try:
            call(null)
        except (IndexError, RuntimeError) as error:
            raise InputError(
                f"the {kind_of(network)} cannot be given the label {null}, which stands for no label ({error}); "
                f"expected a table of {null + 1} rows for its {null} classes"
            ) from None


def _check_rows(table: nn.Module, given: tuple[Any, ...]) -> None:
    """A look at the indices that an embedding is given."""
    indices = given[0] if given else None
    rows = len(table.weight)  # type: ignore[arg-type]
    if isinstance(indices, Tensor) and indices.numel() and int(indices.max()) >= rows:
        raise IndexError(f"its embedding has {rows} rows")


@contextmanager
def own_label_dropout_off(network: nn.Module) -> Iterator[None]:
    """A network that drops labels itself in training, as SiT and DiT do, without that for a while."""
    droppers = droppers_of(network)
    chances = [module.dropout_prob for module in droppers]
    for module in droppers:
        module.dropout_prob = 0.0  # type: ignore[assignment]
    try:
        yield
    finally:
        for module, chance in zip(droppers, chances, strict=True):
            module.dropout_prob = chance


def droppers_of(network: nn.Module) -> list[nn.Module]:
    """The label embedders of a network that drop labels themselves, with a chance above 0."""
    embedders = (m for m in network.modules() if hasattr(m, "embedding_table"))
    return [m for m in embedders if float(getattr(m, "dropout_prob", 0) or 0) > 0]


def warn_of_own_dropout(network: nn.Module, label_dropout: float) -> tuple[str, ...]:
    """Warn that a network would drop labels itself, and does not while it is trained here; return what was said."""
    said = tuple(
        f"the {kind_of(network)} drops labels itself (its {type(module).__name__} has dropout_prob "
        f"{float(module.dropout_prob):g}), which would add to label_dropout {label_dropout:g}; its own is off in "  # type: ignore[arg-type]
        "training, so that labels are dropped once, by label_dropout"
        for module in droppers_of(network)
    )
    for note in said:
        warnings.warn(note, FlowscopeWarning, stacklevel=2)
    return said
