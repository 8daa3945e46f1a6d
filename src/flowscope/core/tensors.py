"""Tensors as plain numbers: those that have none are refused, the others become numpy arrays."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError


def check_is_array(points: Any) -> None:
    """Refuse what numpy would take for one object, or make an array of by calling its items.

    Raises:
        InputError: it is no list, tuple or array.
    """
    if not isinstance(points, (list, tuple)) and not hasattr(points, "__array__"):
        raise InputError(
            f"points are a {type(points).__name__}; expected a tensor or an array (N, *shape), "
            "or flowscope.load of a name, a file, a folder or a TensorDataset"
        )


def check_dense(values: Tensor, what: str) -> None:
    """Refuse a tensor that is not one dense block of numbers.

    Args:
        values: the tensor.
        what: the subject of the message, in the plural, such as "labels".

    Raises:
        InputError: it is nested, sparse, quantised or on the device "meta", which holds no numbers.
    """
    if values.is_nested:
        kind, remedy = "nested, with rows of several lengths", "bring the rows to one length"
    elif values.layout != torch.strided:
        kind, remedy = "sparse", "pass its to_dense()"
    elif values.is_quantized:
        kind, remedy = "quantised", "pass its dequantize()"
    elif values.is_meta:
        kind, remedy = "on the device meta, which holds no numbers", "save them on the CPU"
    else:
        return
    raise InputError(f"{what} are {kind}; expected a dense tensor: {remedy}")


def to_numpy(values: Any, what: str) -> np.ndarray:
    """Values as a numpy array; bfloat16, which numpy lacks, is widened to float32, which loses nothing.

    Raises:
        InputError: they are no array of one shape, or of a kind of number that numpy lacks.
    """
    if isinstance(values, Tensor):
        check_dense(values, what)
        plain = values.detach().cpu().resolve_conj().resolve_neg()
        try:
            return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
        except TypeError:
            kind = str(plain.dtype).removeprefix("torch.")
            raise InputError(f"{what} have dtype {kind}; expected integers or usual floats: convert them") from None
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:  # what elements raise that are no numbers
        raise InputError(f"{what} are not one array ({' '.join(str(error).split())[:200]})") from None
