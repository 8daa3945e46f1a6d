"""Evaluation of a model at fixed probes, in eval mode and without gradients, and checks of the model."""

import inspect
from collections.abc import Sized
from typing import Any

import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.fields import ask, check_field, check_velocity, path_name
from flowscope.networks.eval_mode import FIELD_PARTS, eval_mode
from flowscope.networks.exact_time import call_with_exact_time
from flowscope.oracle import Oracle
from flowscope.training.monitor.probes import Probes


def velocities(model: Any, probes: Probes, batch: int) -> Tensor:
    """The velocities (n, *shape) of a model at all probes, float32 on their device.

    Args:
        model: a field or a module.
        probes: n of them.
        batch: how many states the model is given at a time.
    """
    u, rounds = torch.empty_like(probes.x), list[bool]()
    with eval_mode(model):
        for rows, y in probes.calls(batch):
            u[rows] = call(model, probes.x[rows], probes.t[rows], y, rounds)
    return u


def call(model: Any, x: Tensor, t: Tensor, y: Tensor | None, rounds: list[bool]) -> Tensor:
    """The velocity (B, *shape) of a field or a module at states, in their dtype and on their device.

    Args:
        model: a field or a module.
        x: (B, *shape).
        t: (B,) float64.
        y: (B,) labels, or None.
        rounds: what is known of the module's rounding of times, kept between calls.
    """
    if not isinstance(model, torch.nn.Module):
        return ask(model, x, t, y).to(x.device, x.dtype)
    # a bare module takes states of the dtype and device of its parameters alone
    like = next((p for p in model.parameters() if p.is_floating_point()), x)
    states = x.to(like.device, like.dtype)
    labels = None if y is None else y.to(like.device)
    u = call_with_exact_time(
        lambda dtype: model(states, t.to(like.device, dtype), labels), like.dtype, type(model).__name__, rounds
    )
    what = "the module (as_field makes a field of one with other conventions)"
    return check_velocity(u, states, what, t).to(x.device, x.dtype)


def check_oracle(oracle: Any) -> None:
    """Refuse what is no Oracle.

    Raises:
        InputError: it is not.
    """
    if not isinstance(oracle, Oracle):
        raise InputError(f"oracle is a {type(oracle).__name__}; expected an Oracle: flowscope.Oracle(training_set)")


def check_model(model: Any, oracle: Oracle) -> None:
    """Refuse a model that is no velocity field on the oracle's path and for points of its shape.

    Raises:
        InputError: it is not; the message says what a model has to be.
    """
    check_field(model, "model")
    check_oracle(oracle)
    if isinstance(model, torch.nn.Module):
        try:
            inspect.signature(model.forward).bind(None, None, None)
        except TypeError:
            raise InputError(
                f"model is a {type(model).__name__} with forward{inspect.signature(model.forward)}; expected a module "
                "called as model(x, t, y) that returns the velocity, t = 1 being data: make a field of it by as_field"
            ) from None
    s, shape = oracle.training_set, getattr(model, "shape", None)
    path = path_name(model)
    if path not in (None, oracle.path.name):
        raise InputError(
            f"the model is on the {path} path and the oracle on the {oracle.path.name} path; expected one: "
            f"Oracle(training_set, path={path!r})"
        )
    if isinstance(shape, tuple) and shape != s.shape:
        raise InputError(f"the model is for points of shape {shape}, those of {s.name} have {s.shape}; expected one")


def label_count(model: Any) -> int:
    """How many labels a field takes; 0 for none, or where it does not say.

    A field or a module says it by its `classes`, an oracle by the labels of its points. A field made of fields takes as
    many as the part that takes most; an oracle among the parts needs no labels, so the other parts decide.
    """
    if isinstance(model, Oracle):
        return len(model.training_set.classes)
    classes = getattr(model, "classes", None)
    if classes is not None or isinstance(model, torch.nn.Module):
        return len(classes) if isinstance(classes, Sized) else int(classes or 0)
    parts = [part for part in (getattr(model, name, None) for name in FIELD_PARTS) if part is not None]
    deciding = [part for part in parts if not isinstance(part, Oracle)] or parts
    return max(map(label_count, deciding), default=0)
