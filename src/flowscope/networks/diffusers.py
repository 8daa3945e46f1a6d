"""Conventions of diffusers models, read from the configs of model and scheduler without importing diffusers.

A UNet2DModel or DiTTransformer2DModel does not say what it predicts nor on which schedule; its scheduler does. The
transformers of diffusers' flow-matching pipelines do not say it at all: the pipeline makes the timestep of the noise
level sigma = 1 - t, and some change the sign of the prediction. TRANSFORMERS holds what each pipeline does.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from flowscope.errors import InputError
from flowscope.networks.call_styles import call_by_name, call_flux, call_hidream, call_state_first, call_z_image
from flowscope.networks.convention import CONVENTIONS, Convention, Prediction
from flowscope.networks.labels import config_of, kind_of, signature_of
from flowscope.networks.tabulated_path import tabulated_path

PREDICTION_TYPES: dict[str, Prediction] = {"epsilon": "noise", "sample": "data", "v_prediction": "v"}
FLOW_MATCHING = Convention("diffusers flow matching", sign=-1.0, reverse=True, scale=1000.0)
FLOW_PREDICTIONS = {  # of schedulers of other paths with use_flow_sigmas: UniPC, DPM++, DEIS
    "flow_prediction": FLOW_MATCHING,
    "epsilon": Convention("diffusers flow epsilon", "noise", reverse=True, scale=1000.0),
    "sample": Convention("diffusers flow sample", "data", reverse=True, scale=1000.0),
}
TIMESTEPS = 1000  # num_train_timesteps of the schedulers of all these pipelines
CONTINUOUS_LEVELS = 1000  # nodes of the schedule of a scheduler with continuous timesteps


def _transformer(name: str, **given: Any) -> Convention:
    return Convention(name, **{"call": call_by_name, **given})


# given 1000 sigma, or sigma, it predicts x0 - x1; given 1 - sigma, it predicts x1 - x0, whose sign the pipeline changes
_THOUSANDS: dict[str, Any] = {"sign": -1.0, "reverse": True, "scale": 1000.0}
_LEVEL: dict[str, Any] = {"sign": -1.0, "reverse": True}
_TEXT = ("encoder_hidden_states",)
TRANSFORMERS = {
    "SD3Transformer2DModel": CONVENTIONS["sd3"],
    "WanTransformer3DModel": _transformer("wan", **_THOUSANDS),
    "CogView4Transformer2DModel": _transformer("cogview4", **_THOUSANDS),
    "HunyuanImageTransformer2DModel": _transformer("hunyuan image", **_THOUSANDS),
    "SanaTransformer2DModel": _transformer("sana", **_THOUSANDS),  # times the timestep_scale of its config
    "FluxTransformer2DModel": CONVENTIONS["flux"],
    "ChromaTransformer2DModel": _transformer("chroma", **_LEVEL, call=call_flux, needs=_TEXT),
    "Flux2Transformer2DModel": _transformer("flux.2", **_LEVEL),
    "QwenImageTransformer2DModel": _transformer("qwen image", **_LEVEL),
    "AuraFlowTransformer2DModel": _transformer("auraflow", **_LEVEL),
    "PRXTransformer2DModel": _transformer("prx", **_LEVEL),
    "Lumina2Transformer2DModel": _transformer("lumina 2"),
    "ZImageTransformer2DModel": _transformer("z-image", call=call_z_image, needs=("cap_feats",)),
    "HiDreamImageTransformer2DModel": _transformer(
        "hidream", reverse=True, scale=1000.0, call=call_hidream, needs=("encoder_hidden_states_llama3",)
    ),
}


def diffusers_convention(module: nn.Module, scheduler: Any) -> Convention:
    """The convention of a diffusers model.

    Args:
        module: the model, whose class and config are read.
        scheduler: the scheduler it was trained with, such as pipeline.scheduler; None only for TRANSFORMERS, and for
            modules without a config, which are taken for flow-matching models.

    Raises:
        InputError: they do not say enough, or say something that flowscope has no formula for.
    """
    flow = TRANSFORMERS.get(kind_of(module))
    if flow is not None:
        return _known_transformer(module, flow, scheduler)
    if scheduler is None and not config_of(module):
        return FLOW_MATCHING
    if scheduler is None:
        raise InputError(
            f"a {kind_of(module)} does not say what it predicts nor on which noise schedule; expected its "
            "scheduler=..., such as pipeline.scheduler (or convention 'flowscope' for a network of flowscope's)"
        )
    found = read_scheduler(scheduler)
    if found.name == FLOW_MATCHING.name and _is_transformer(module):
        raise _unknown_transformer(module)
    return replace(_with_variance(module, found), call=_call_style(module))


def _known_transformer(module: nn.Module, flow: Convention, scheduler: Any) -> Convention:
    """The convention of one of TRANSFORMERS, after a look at its scheduler, if there is one."""
    if scheduler is not None:
        name, steps = read_scheduler(scheduler).name, config_of(scheduler).get("num_train_timesteps")
        if name != FLOW_MATCHING.name:
            raise InputError(
                f"a {kind_of(module)} predicts a velocity and its scheduler is a {type(scheduler).__name__}; expected "
                "a flow-matching scheduler such as FlowMatchEulerDiscreteScheduler, or none"
            )
        if steps != TIMESTEPS:
            raise InputError(
                f"the scheduler of a {kind_of(module)} has num_train_timesteps {steps}; expected {TIMESTEPS}, as "
                "diffusers' pipelines have, or a Convention of your own with another scale"
            )
    return replace(flow, scale=flow.scale * float(config_of(module).get("timestep_scale", 1.0)))


def _is_transformer(module: nn.Module) -> bool:
    """Whether a model is a transformer of diffusers whose pipeline, not its scheduler, says what it is given."""
    kind = type(getattr(module, "_orig_mod", module))
    home = kind.__module__.startswith("diffusers.models.transformers")
    return (home or "Transformer" in kind.__name__) and kind.__name__ != "DiTTransformer2DModel"


def _unknown_transformer(module: nn.Module) -> InputError:
    how = "sign=-1, reverse=True, scale=1000, call=flowscope.networks.call_styles.call_by_name"
    return InputError(
        f"flowscope does not know which time a {kind_of(module)} is given, nor the sign of what it predicts; expected "
        f"a Convention by what its pipeline does: flowscope.networks.Convention('mine', {how}) where the transformer "
        "is given the scheduler's timestep; scale=1 where that is divided by 1000, reverse=False where it is given "
        "1 - sigma, sign=1 where the pipeline negates what it returns"
    )


def _call_style(module: nn.Module) -> Any:
    """By name for a model of diffusers, whose orders of arguments vary; a module without a config is called x, t, y."""
    return call_by_name if config_of(module) and "timestep" in signature_of(module) else call_state_first


def read_scheduler(scheduler: Any) -> Convention:
    """The convention of models trained with a scheduler: FlowMatch..., or one with alphas_cumprod (DDPM, DDIM, ...).

    Its shift is not read: it says which timesteps a sampler visits (:func:`flowscope.sampling.nodes_of`), not what the
    network predicts. Nor is clip_sample, with which a sampler clips the data that the network predicts: `clip` of a
    Convention does that.

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
    if config.get("use_flow_sigmas") and prediction in FLOW_PREDICTIONS:
        return replace(FLOW_PREDICTIONS[prediction], scale=float(config["num_train_timesteps"]))
    if table is None or prediction is None or config.get("use_flow_sigmas") or distilled:
        raise InputError(
            f"scheduler is a {kind}, which flowscope cannot read; expected one with alphas_cumprod and prediction_type "
            "(DDPMScheduler, DDIMScheduler, ...), one with use_flow_sigmas that predicts flow_prediction, epsilon or "
            "sample, or a FlowMatchEulerDiscreteScheduler"
        )
    if prediction not in PREDICTION_TYPES:
        raise InputError(
            f"the scheduler's prediction_type is {prediction!r}; expected one of {', '.join(PREDICTION_TYPES)}"
        )
    name = f"diffusers {config.get('beta_schedule', 'betas')}"
    if config.get("timestep_type") == "continuous" and prediction == "v_prediction":
        path = tabulated_path(_continuous_table(table, config), f"{name}, continuous")
        return Convention("diffusers v_prediction", "v", path=path, clock="log_sigma", scale=0.25)
    path = tabulated_path(table, name)
    return Convention(
        f"diffusers {prediction}", PREDICTION_TYPES[prediction], path=path, reverse=True, scale=float(len(table) - 1)
    )


def _continuous_table(table: Any, config: Any) -> torch.Tensor:
    """The schedule of a scheduler whose timesteps are 0.25 log sigma: of its sigma_min to sigma_max, or its table's."""
    kept = torch.as_tensor(table).detach().to("cpu", torch.float64)
    levels = ((1 - kept) / kept).sqrt()
    low, high = (config.get(name) or float(levels[at]) for name, at in (("sigma_min", 0), ("sigma_max", -1)))
    if not 0 < low < high < float("inf"):
        raise InputError(f"the scheduler's noise levels go from {low} to {high}; expected 0 < sigma_min < sigma_max")
    logs = torch.linspace(math.log(low), math.log(high), CONTINUOUS_LEVELS, dtype=torch.float64, device="cpu")
    return 1 / (1 + torch.exp(2 * logs))


def _with_variance(module: nn.Module, convention: Convention) -> Convention:
    """The convention for a module that may return a learned variance in a second half of its channels."""
    config = config_of(module)
    taken, returned = config.get("in_channels"), config.get("out_channels")
    return replace(convention, variance=taken is not None and returned == 2 * taken)
