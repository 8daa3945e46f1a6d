"""Small photographs that are at hand: pieces of one of scikit-learn's pictures; and what is done to pictures."""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def photographs(side: int = 32) -> Tensor:
    """(60, 3, side, side) float32 in [-1, 1]: pieces of a picture of a flower that do not overlap."""
    from sklearn.datasets import load_sample_image

    flower = load_sample_image("flower.jpg")[: 6 * 64, : 10 * 64].reshape(6, 64, 10, 64, 3)
    pieces = flower.transpose(0, 2, 1, 3, 4).reshape(60, 64, 64, 3)
    shrunk = [np.asarray(Image.fromarray(piece).resize((side, side))) for piece in pieces]
    return torch.from_numpy(np.stack(shrunk)).permute(0, 3, 1, 2).float() / 127.5 - 1


def reencoded(images: Tensor, quality: int = 75) -> Tensor:
    """The images, saved as JPEG and read again."""

    def saved(image: np.ndarray) -> np.ndarray:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=quality)
        return np.array(Image.open(stream))

    pixels = ((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return torch.from_numpy(np.stack([saved(image) for image in pixels])).permute(0, 3, 1, 2).float() / 127.5 - 1


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "re-encoded": reencoded,
    "brightened by a tenth": lambda x: ((x + 1) * 1.1 - 1).clamp(-1, 1),
    "brightened by 0.1": lambda x: (x + 0.2).clamp(-1, 1),
    "brightened by a quarter": lambda x: ((x + 1) * 1.25 - 1).clamp(-1, 1),
    "shifted by a 64th": lambda x: torch.roll(x, max(1, x.shape[-1] // 64), -1),
    "flipped": lambda x: x.flip(-1),
}
