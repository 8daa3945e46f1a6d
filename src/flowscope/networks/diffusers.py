"""What a diffusers model and its scheduler say of themselves, read from their configuration without importing them.

A UNet2DModel or DiTTransformer2DModel does not know what it predicts nor on which schedule: its scheduler does. SD3 and
FLUX transformers are flow-matching models in any case.
"""

from dataclasses import replace
from typing import Any

from torch import nn

from flowscope.errors import InputError
from flowscope.networks.convention import CONVENTIONS, Convention, Prediction
from flowscope.networks.labels import config_of, kind_of
from flowscope.networks.tabulated_path import tabulated_path

PREDICTIONS: dict[str, Prediction] = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}
FLOW_MATCHING = Convention("diffusers flow matching", sign=-1.0, reverse=True, scale=1000.0)
FLOW = {"SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux"}


def diffusers_convention(module: nn.Module, scheduler: Any) -> Convention:
    """The convention of a diffusers model.

    Args:
        module: the model; its class and config are looked at.
        scheduler: the scheduler it was trained with, such as pipeline.scheduler; None only for SD3 and FLUX, and for
            modules that are not diffusers' own (those without a config), which are taken for flow-matching ones.

    Raises:
        InputError: they do not say enough, or something flowscope has no formula for.
    """
    flow = FLOW.get(kind_of(module))
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
    return _whole(module, found) if flow is None else CONVENTIONS[flow]


def read_scheduler(scheduler: Any) -> Convention:
    """The convention of models trained with a scheduler: FlowMatch..., or one with alphas_cumprod (DDPM, DDIM, ...).

    Its shift is not read: that says which timesteps a sampler visits (`sample(..., shift=1 / scheduler.shift)`), not
    what the network is.

    Raises:
        InputError: it is neither, or predicts what flowscope has no formula for.
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
    distilled = "LCM" in kind or "TCD" in kind  # of consistency models, which predict no velocity
    if table is None or prediction is None or config.get("use_flow_sigmas") or distilled:
        raise InputError(
            f"scheduler is a {kind}, which flowscope cannot read; expected one with alphas_cumprod and prediction_type "
            "(DDPMScheduler, DDIMScheduler, ...) or a FlowMatchEulerDiscreteScheduler"
        )
    if prediction not in PREDICTIONS:
        raise InputError(f"the scheduler's prediction_type is {prediction!r}; expected one of {', '.join(PREDICTIONS)}")
    path = tabulated_path(table, f"diffusers {config.get('beta_schedule', 'betas')}")
    return Convention(
        f"diffusers {prediction}", PREDICTIONS[prediction], path=path, reverse=True, scale=float(len(table) - 1)
    )


def _whole(module: nn.Module, convention: Convention) -> Convention:
    """The convention for a module that may return a learned variance in as many channels again."""
    config = config_of(module)
    channels, returned = config.get("in_channels"), config.get("out_channels")
    return replace(convention, variance=channels is not None and returned == 2 * channels)
