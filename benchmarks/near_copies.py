"""How many near-copies are found: images that were saved again, brightened, shifted or flipped, beside their originals.

    python benchmarks/near_copies.py [--points 4000] [--changed 400]

A row is a set of images and a change. The changed images are added to the set. "found" is the share of them that are in
one group with their originals. "others" is how many images of the set itself are near-copies of another.
"""

import argparse
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import flowscope as fs
from _harness import save, table
from flowscope.metrics import near_copies

DATA = Path(os.environ.get("FLOWSCOPE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SETS = {
    "digits, 8 px": "digits",
    "MNIST, 28 px": DATA / "mnist_train.npz",
    "CIFAR-10 (JPEG), 32 px": DATA / "cifar10_jpegbytes_train.npz",
    "Tiny ImageNet (JPEG), 64 px": DATA / "tinyimagenet64_jpegbytes_train_0.npz",
}


def jpeg(quality: int) -> Callable[[Tensor], Tensor]:
    """Save and read again at this quality."""

    def change(images: Tensor) -> Tensor:
        found = []
        for image in images:
            stream, pixels = io.BytesIO(), (127.5 * (image.numpy() + 1)).round().astype(np.uint8)
            Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)).save(
                stream, "JPEG", quality=quality
            )
            read = np.asarray(Image.open(stream))
            found.append(np.moveaxis(np.atleast_3d(read), 2, 0) / 127.5 - 1)
        return torch.tensor(np.stack(found), dtype=images.dtype)

    return change


def brighter(factor: float) -> Callable[[Tensor], Tensor]:
    """Multiply pixels and cut them off at white."""
    return lambda images: ((images + 1) * factor - 1).clamp(-1, 1)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "JPEG, quality 75": jpeg(75),
    "JPEG, quality 30": jpeg(30),
    "brighter by 10 %": brighter(1.1),
    "brighter by 25 %": brighter(1.25),
    "shifted by 1 px": lambda images: images.roll(1, -1),
    "shifted by 2 px": lambda images: images.roll(2, -1),
    "flipped": lambda images: images.flip(-1),
}


def recall(images: Tensor, changed: Tensor) -> float:
    """The share of the changed images that are in one group with their originals, the first images."""
    group = near_copies(torch.cat([images, changed]))
    return float((group[: len(changed)] == group[len(images) :]).mean())


def main() -> None:
    """Measure all sets that are there, and print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=4000)
    parser.add_argument("--changed", type=int, default=400)
    asked = parser.parse_args()
    rows = []
    for name, source in SETS.items():
        if isinstance(source, Path) and not source.is_file():
            print(f"{name} is not there: left out")
            continue
        whole = fs.load(source)
        images = whole.rows(slice(0, min(asked.points, len(whole)))).float()
        others = len(images) - len(np.unique(near_copies(images)))
        found = [recall(images, change(images[: asked.changed])) for change in CHANGES.values()]
        rows.append([name, len(images), others, *found])
    columns = ["set", "images", "others", *CHANGES]
    table("Near-copies found, as a share", columns, rows)
    save("near_copies", {"rows": [dict(zip(columns, row, strict=True)) for row in rows]})


if __name__ == "__main__":
    main()
