"""The labels that a module takes: how many it says it has, and checks of those it is given."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from flowscope.errors import InputError, listed

MAX_LISTED_RANGES = 12  # of labels, in a message


class Labels(NamedTuple):
    """The labels of a network."""

    classes: int | None  # how many there are; None where that is unknown
    null: int | None  # the label that stands for no label; None where there is none


def kind_of(module: nn.Module) -> str:
    """The name of a module's class; of a module that torch.compile wraps, the name of the wrapped one's."""
    return type(getattr(module, "_orig_mod", module)).__name__


def signature_of(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The parameters of a module's forward by name; of a module that torch.compile wraps, the wrapped one's.

    Empty where Python does not know them, as of compiled code.
    """
    try:
        return inspect.signature(getattr(module, "_orig_mod", module).forward).parameters
    except (TypeError, ValueError):
        return {}


def config_of(thing: Any) -> Mapping[str, Any]:
    """The `config` of a module or scheduler, by name; empty for one without."""
    config = getattr(thing, "config", None)
    return config if isinstance(config, Mapping) else dict(getattr(config, "__dict__", {}))


def read_labels(module: nn.Module, last_is_null: bool) -> Labels:
    """The labels that a module says it has, by diffusers' config, a y_embedder, label_dim or num_classes."""
    config, embedder = config_of(module), getattr(module, "y_embedder", None)
    if config.get("num_class_embeds"):  # UNet2DModel: a table of embeddings; the last may stand for none
        count = int(config["num_class_embeds"])
        return Labels(count - 1, count - 1) if last_is_null else Labels(count, None)
    single = config.get("norm_type") == "ada_norm_single"  # PixArt, which has no labels
    if "num_embeds_ada_norm" in config and not single:  # DiTTransformer2DModel: its table has one more, for none
        return Labels(int(config["num_embeds_ada_norm"]), int(config["num_embeds_ada_norm"]))
    if embedder is not None and isinstance(getattr(embedder, "num_classes", None), int):  # DiT, SiT, LightningDiT, REPA
        table = getattr(getattr(embedder, "embedding_table", None), "num_embeddings", embedder.num_classes + 1)
        return Labels(embedder.num_classes, embedder.num_classes if table > embedder.num_classes else None)
    for name in ("label_dim", "num_classes"):  # EDM; torchcfm and many others
        found = getattr(module, name, None)
        if isinstance(found, int) and not isinstance(found, bool):
            return Labels(found, found if last_is_null and found else None)
    return Labels(None, None)


def resolve_labels(module: nn.Module, last_is_null: bool, classes: Any, null: Any) -> Labels:
    """The labels of a module by what the user says of them, else by what it says itself.

    Args:
        module: the network.
        last_is_null: whether its last label stands for no label.
        classes: the number of labels, by the user; None for what the module says.
        null: the label that stands for none, by the user; None for what the module says.

    Raises:
        InputError: a number is not a whole number of at least 0, or beyond what the module has.
    """
    for value, what in ((classes, "classes"), (null, "null")):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0):
            raise InputError(f"{what} is {value!r}; expected None or a whole number of at least 0")
    classes, null = (None if value is None else int(value) for value in (classes, null))
    own = read_labels(module, last_is_null)
    if classes is not None and own.classes is not None and classes > own.classes:
        raise InputError(f"classes is {classes}, and the module has {own.classes}; expected no more than it has")
    _check_null(module, own, null)
    if null is None:
        null = own.null if own.classes is not None else classes if last_is_null and classes else None
    if classes is None:
        classes = own.classes if own.classes is None or null != own.classes - 1 else null
    return Labels(classes, null)


def _check_null(module: nn.Module, own: Labels, null: int | None) -> None:
    """Refuse a null label for which the module has no embedding."""
    if null is None or own.classes is None:
        return
    full = own.null is None and config_of(module).get("num_class_embeds")  # its table has no row beyond the classes
    most = own.classes - 1 if full else own.classes
    if null > most:
        raise InputError(f"null is {null}, and the module's labels end at {most}; expected one of its labels")


def check_trained_labels(trained: Any, classes: int | None) -> tuple[int, ...] | None:
    """The labels that a network was trained on, ascending; None where those are all that it has, or unknown.

    Raises:
        InputError: they are not labels below `classes`.
    """
    if trained is None:
        return None
    found = sorted(set(trained)) if isinstance(trained, Iterable) and not isinstance(trained, str) else []
    whole = all(isinstance(k, (int, np.integer)) and not isinstance(k, bool) for k in found)
    if not found or not whole or found[0] < 0 or found[-1] >= (classes or 0):
        most = f"some labels from 0 to {classes - 1}" if classes else "None, as it has no classes"
        raise InputError(f"labels are {repr(trained)[:60]}; expected {most}, those that the network was trained on")
    return None if len(found) == classes else tuple(map(int, found))


def labels_in_words(labels: Iterable[int]) -> str:
    """Ascending labels in words, with ranges: "0 to 3, 5 and 9"."""
    ranges: list[list[int]] = []
    for label in labels:
        if ranges and label == ranges[-1][-1] + 1:
            ranges[-1][1:] = [label]
        else:
            ranges.append([label])
    said = [" to ".join(map(str, ends)) for ends in ranges]
    if len(said) > MAX_LISTED_RANGES:
        said = [*said[: MAX_LISTED_RANGES - 1], "...", said[-1]]
    return listed(said)


def network_labels(
    labels: Labels,
    y: Tensor | None,
    rows: int,
    device: torch.device,
    name: str,
    trained: tuple[int, ...] | None = None,
) -> Any:
    """The labels (rows,) that the network is given; None for a network that takes none.

    Args:
        labels: those that the network has.
        y: (rows,) as the field was given them; None for no labels.
        rows: how many states there are.
        device: where the labels are wanted.
        name: of the network.
        trained: those it was trained on, where some are missing; else None.

    Raises:
        InputError: the network lacks a label, takes no labels, or has no null label where none are given.
    """
    if y is not None:
        _check_labels(labels, y, name, trained)
        return y.to(device)
    if labels.null is None and labels.classes:
        raise InputError(
            f"y is None, and {name} has {labels.classes} classes and no null label; expected labels, or null=... in "
            "as_field where one of its labels stands for none"
        )
    return None if labels.null is None else torch.full((rows,), labels.null, dtype=torch.int64, device=device)


def _check_labels(labels: Labels, y: Tensor, name: str, trained: tuple[int, ...] | None) -> None:
    if not labels.classes:
        raise InputError(
            f"y was given, and {name} takes no labels; expected y=None"
            + (" (or classes=... in as_field, if it does take them)" if labels.classes is None else "")
        )
    named = y if labels.null is None else y[y != labels.null]  # the rest stands for no label
    wrong = named[(named < 0) | (named >= labels.classes)]
    if len(wrong):
        raise InputError(
            f"y holds the label {wrong[0].item()}, and {name} has {labels.classes} classes; expected labels from 0 to "
            f"{labels.classes - 1}, or None for no label"
        )
    if trained is not None and len(unseen := named[~torch.isin(named, torch.tensor(trained, device=y.device))]):
        raise InputError(
            f"y holds the label {unseen[0].item()}, and {name} was trained on no point with it: it would answer with "
            f"an embedding as it was drawn; expected labels that it was trained on: {labels_in_words(trained)}"
        )
