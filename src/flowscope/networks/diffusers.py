"""Conventions of diffusers models, read from the configs of model and scheduler without importing diffusers.

A UNet2DModel or DiTTransformer2DModel does not say what it predicts nor on which schedule; its scheduler does. SD3 and
FLUX transformers are flow-matching models in any case.
"""

from dataclasses import replace
from typing import Any

from torch import nn

from flowscope.errors import InputError
from flowscope.networks.convention import CONVENTIONS, Convention, Prediction
from flowscope.networks.labels import config_of, kind_of
from flowscope.networks.tabulated_path import tabulated_path

PREDICTION_TYPES: dict[str, Prediction] = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}
FLOW_MATCHING = Convention("diffusers flow matching", sign=-1.0, reverse=True, scale=1000.0)
FLOW_MATCHING_MODELS = {"SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux"}  # to names of CONVENTIONS


def diffusers_convention(module: nn.Module, scheduler: Any) -> Convention:
    """The convention of a diffusers model.

    Args:
        module: the model, whose class and config are read.
        scheduler: the scheduler it was trained with, such as pipeline.scheduler; None only for SD3 and FLUX, and for
            modules without a config, which are taken for flow-matching models.

    Raises:
        InputError: they do not say enough, or say something that flowscope has no formula for.
    """
    flow = FLOW_MATCHING_MODELS.get(kind_of(module))
    if scheduler is None:
        if flow is None and not config_of(module):
            return FLOW_MATCHING
        if flow is None:
            raise InputError(
                f"a {kind_of(module)} does not say what it predicts nor on which noise schedule; expected its "
                "scheduler=..., such as pipeline.scheduler (or convention 'flowscope' for a network of flowscope's)"
            )
        return CONVENTIONS[flow]
    found = read_scheduler(scheduler)
    if flow is not None and found.name != FLOW_MATCHING.name:
        raise InputError(
            f"a {kind_of(module)} predicts a velocity and its scheduler is a {type(scheduler).__name__}; expected a "
            "flow-matching scheduler such as FlowMatchEulerDiscreteScheduler, or none"
        )
    return _with_variance(module, found) if flow is None else CONVENTIONS[flow]


def read_scheduler(scheduler: Any) -> Convention:
    """The convention of models trained with a scheduler: FlowMatch..., or one with alphas_cumprod (DDPM, DDIM, ...).

    Its shift is not read: it says which timesteps a sampler visits (`sample(..., shift=1 / scheduler.shift)`), not what
    the network predicts.

    Raises:
        InputError: it is neither, or its models predict something that flowscope has no formula for.
    """
    config, kind = config_of(scheduler), type(scheduler).__name__
    if kind.startswith("FlowMatch") and "LCM" not in kind:
        if config.get("invert_sigmas"):
            raise InputError(
                f"the {kind} has invert_sigmas, whose time is 1 - sigma; expected a Convention of your own"
            )
        steps = float(config["num_train_timesteps"])
        return replace(FLOW_MATCHING, scale=steps)
    table, prediction = getattr(scheduler, "alphas_cumprod", None), config.get("prediction_type")
    distilled = "LCM" in kind or "TCD" in kind  # for consistency models, which predict no velocity
    if table is None or prediction is None or config.get("use_flow_sigmas") or distilled:
        raise InputError(
            f"scheduler is a {kind}, which flowscope cannot read; expected one with alphas_cumprod and prediction_type "
            "(DDPMScheduler, DDIMScheduler, ...) or a FlowMatchEulerDiscreteScheduler"
        )
    if prediction not in PREDICTION_TYPES:
        raise InputError(
            f"the scheduler's prediction_type is {prediction!r}; expected one of {', '.join(PREDICTION_TYPES)}"
        )
    path = tabulated_path(table, f"diffusers {config.get('beta_schedule', 'betas')}")
    return Convention(
        f"diffusers {prediction}", PREDICTION_TYPES[prediction], path=path, reverse=True, scale=float(len(table) - 1)
    )


def _with_variance(module: nn.Module, convention: Convention) -> Convention:
    """The convention for a module that may return a learned variance in a second half of its channels."""
    config = config_of(module)
    taken, returned = config.get("in_channels"), config.get("out_channels")
    return replace(convention, variance=taken is not None and returned == 2 * taken)
