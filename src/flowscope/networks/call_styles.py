"""Call styles: how networks are called. Each function is call(module, x, timestep, y, extras) -> what it returns.

x (B, *shape) and timestep (B,) are in the network's own terms. y is (B,) int64, or None for a call without labels.
extras are keyword arguments that are the same in every call, such as text embeddings.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flowscope.errors import InputError

Extras = Mapping[str, Any]
Call = Callable[[nn.Module, Tensor, Tensor, Tensor | None, Extras], Any]


def call_state_first(module: nn.Module, x: Tensor, timestep: Tensor, y: Tensor | None, extras: Extras) -> Any:
    """module(x, t) or module(x, t, y): diffusers, SiT, LightningDiT, DiT, REPA."""
    return module(x, timestep, **extras) if y is None else module(x, timestep, y, **extras)


def call_time_first(module: nn.Module, x: Tensor, timestep: Tensor, y: Tensor | None, extras: Extras) -> Any:
    """module(t, x) or module(t, x, y): torchcfm."""
    return module(timestep, x, **extras) if y is None else module(timestep, x, y, **extras)


def call_labels_by_name(module: nn.Module, x: Tensor, timestep: Tensor, y: Tensor | None, extras: Extras) -> Any:
    """module(x, t) or module(x, t, y=y): flow_matching, whose models take keyword arguments beside x and t."""
    return module(x, timestep, **extras) if y is None else module(x, timestep, y=y, **extras)


def call_one_hot(module: nn.Module, x: Tensor, timestep: Tensor, y: Tensor | None, extras: Extras) -> Any:
    """module(x, sigma) or module(x, sigma, one-hot labels): EDM, where the null label is a row of zeros."""
    if y is None:
        return module(x, timestep, **extras)
    count = getattr(module, "label_dim", None)
    if not isinstance(count, int):
        raise InputError(f"the {type(module).__name__} has no label_dim, which says how wide its one-hot labels are")
    classes = torch.arange(count, device=y.device)
    return module(x, timestep, (y[:, None] == classes).to(x.dtype), **extras)


def call_by_name(module: nn.Module, x: Tensor, timestep: Tensor, y: Tensor | None, extras: Extras) -> Any:
    """module(x, timestep=...) or module(x, timestep=..., class_labels=y): diffusers, whose orders of arguments vary."""
    labels = {} if y is None else {"class_labels": y}
    return module(x, timestep=timestep, **labels, **extras)


def call_hidream(module: nn.Module, x: Tensor, timestep: Tensor, y: Tensor | None, extras: Extras) -> Any:
    """HiDreamImageTransformer2DModel: its timestep is called timesteps; embeddings of Llama are (layers, B, ...)."""
    named = dict(extras)
    llama = named["encoder_hidden_states_llama3"].to(x.device, x.dtype)
    named["encoder_hidden_states_llama3"] = llama.expand(len(llama), len(x), *llama.shape[2:])
    return module(x, timesteps=timestep, **named)


def call_z_image(module: nn.Module, x: Tensor, timestep: Tensor, y: Tensor | None, extras: Extras) -> Any:
    """ZImageTransformer2DModel: a list of latents (C, 1, H, W), and a list of captions, of one text or one a row."""
    named = dict(extras)
    captions = list(named.pop("cap_feats"))
    if len(captions) not in (1, len(x)):
        raise InputError(f"cap_feats has {len(captions)} texts for {len(x)} states; expected one, or one for each")
    captions = [c.to(x.device, x.dtype) for c in captions] * (len(x) // len(captions))
    found = first_output(module(list(x[:, :, None]), timestep, captions, **named))
    return torch.stack(list(found))[:, :, 0]


def call_flux(module: nn.Module, x: Tensor, timestep: Tensor, y: Tensor | None, extras: Extras) -> Any:
    """FLUX and Chroma: latents (B, C, H, W) are packed into a token for each 2 x 2 patch, and unpacked again."""
    if x.ndim != 4 or x.shape[2] % 2 or x.shape[3] % 2:
        raise InputError(f"x has shape {tuple(x.shape)}; FLUX takes latents (B, C, H, W) with even height and width")
    rows, channels, height, width = x.shape
    patches = x.reshape(rows, channels, height // 2, 2, width // 2, 2)
    tokens = patches.permute(0, 2, 4, 1, 3, 5).reshape(rows, height * width // 4, channels * 4)
    places = [torch.arange(n, device=x.device, dtype=x.dtype) for n in (1, height // 2, width // 2)]
    named = dict(extras)
    named.setdefault("img_ids", torch.cartesian_prod(*places))  # (tokens, 3): zero, row, column
    named.setdefault("txt_ids", x.new_zeros(named["encoder_hidden_states"].shape[1], 3))
    found = first_output(module(hidden_states=tokens, timestep=timestep, **named))
    back = found.reshape(rows, height // 2, width // 2, channels, 2, 2)
    return back.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


def first_output(found: Any) -> Any:
    """The prediction in what a network returned: a tensor, the first of a tuple, or the `sample` of a record."""
    if isinstance(found, (tuple, list)) and found:
        return found[0]
    return getattr(found, "sample", found) if not isinstance(found, Tensor) else found


TEXT_EMBEDDINGS = ("encoder_hidden_states", "pooled_projections")  # arguments that SD3 and FLUX need for each row
ROW_ARGUMENTS = (  # arguments of diffusers models that hold one row for each state
    *TEXT_EMBEDDINGS,
    "encoder_hidden_states_2",
    "encoder_hidden_states_t5",
    "encoder_hidden_states_image",
    "encoder_hidden_states_mask",
    "encoder_attention_mask",
    "encoder_attention_mask_2",
    "attention_mask",
    "pooled_embeds",
    "original_size",
    "target_size",
    "crop_coords",
    "text_embeds",
    "image_embeds",
    "time_ids",
    "guidance",
)


def expand_rows(extras: Extras, x: Tensor) -> dict[str, Any]:
    """The extras with one row for each state, of one row for all or of one for each; numbers in x's dtype and device.

    Raises:
        InputError: an argument has another number of rows.
    """
    named = dict(extras)
    for name, value in extras.items():
        if name == "guidance" and isinstance(value, (int, float)):
            named[name] = x.new_full((len(x),), value)
        elif isinstance(value, Mapping):
            named[name] = expand_rows(value, x)
        elif name in ROW_ARGUMENTS and isinstance(value, Tensor):
            if len(value) not in (1, len(x)):
                raise InputError(
                    f"{name} has {len(value)} rows for {len(x)} states; expected one row, or one for each state"
                )
            value = value.to(x.device, x.dtype if value.is_floating_point() else value.dtype)
            named[name] = value.expand(len(x), *value.shape[1:])
    return named
