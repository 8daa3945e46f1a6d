"""How well planted copies are found among held-out images: by the audit, by d1/d2 < 1/3, by AuthPct and by C_T.

    python benchmarks/planted.py [--points 2000] [--samples 500] [--planted 100] [--spaces pixels values ...]

For each set and space: copies of each kind are made of training images. "recall" is the share of them that the audit
finds as copies of their originals, at the threshold that held-out images set; "third" the share with d1/d2 < 1/3;
"unauthentic" the share that AuthPct counts as copies. "C_T" is that of new images with the planted ones among them. The
kind "none" are new images alone: there these shares are false alarms. All look at the same samples and features.

A row is kept as soon as it is measured, and one that is there is not measured again, unless other counts are asked for.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

import flowscope as fs
from _harness import RESULTS, save, table
from flowscope.auditing import rule
from flowscope.auditing.copying import copying_test, nearest_to
from flowscope.auditing.inputs import as_float
from flowscope.auditing.planted import PICTURE_KINDS, kinds_for, originals, values_of
from flowscope.auditing.spaces import make_index
from flowscope.data import TrainingSet
from flowscope.metrics import FeatureSpace
from mobilenet import DATA, MobileNetV1

SETS = {
    "CIFAR-10 (JPEG)": ("cifar10_jpegbytes_train.npz", "cifar10_jpegbytes_test.npz"),
    "Tiny-ImageNet (JPEG)": ("tinyimagenet64_jpegbytes_train_0.npz", "tinyimagenet64_jpegbytes_val_0.npz"),
    "MNIST": ("mnist_train.npz", "mnist_test.npz"),
}
COLUMNS = ("set", "space", "kind", "recall", "low", "high", "third", "unauthentic", "C_T", "threshold")
NEW = "none"  # the kind of images that are no copies
KINDS = (NEW, *PICTURE_KINDS)
WAYS = {"audit": "recall", "d1/d2 < 1/3": "third", "AuthPct": "unauthentic", "C_T": "C_T"}


class Values(torch.nn.Module):
    """The values of images, as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def space(name: str) -> Any:
    """What an audit takes for a space of that name."""
    if name == "pixels":
        return name
    if name == "values":
        return FeatureSpace("values", Values())
    if name == "mobilenet":
        return FeatureSpace("MobileNetV1", MobileNetV1())
    return f"taef2:{DATA / 'weights' / 'taef2_encoder.pth'}"


def measure(train: TrainingSet, null: Tensor, new: Tensor, name: str, planted: int) -> list[dict[str, Any]]:
    """A row for new images and for each kind of planted copies."""
    index = make_index(train, space(name))
    theta, features = rule.threshold(index(null).ratio), index.features()
    held_out = index.features(null).double()
    at = originals(train, index.group, planted, 0)
    points, values, own = as_float(train.rows(at)), values_of(train), index.group[at]
    kinds = {NEW: new} | {kind: change(points, values).float() for kind, change in kinds_for(train).items()}
    nearest_null, rows = nearest_to(features, held_out), []
    for kind, images in kinds.items():
        found, described = index(images), index.features(images).double()
        mine = (index.group[found.indices] == own) if kind != NEW else torch.ones(len(images), dtype=torch.bool)
        share = rule.share_of((found.ratio < theta) & mine)
        nearest = nearest_to(features, described)
        asked, place = nearest.indices.unique(return_inverse=True)
        apart = nearest_to(features, features[asked].double(), but=asked).distances
        mixed = described if kind == NEW else torch.cat([described, index.features(new).double()])
        test = copying_test(features, (mixed, nearest_to(features, mixed)), (held_out, nearest_null))
        third = float(((found.ratio < 1 / 3) & mine).double().mean())
        unauthentic = float((nearest.distances <= apart[place]).double().mean())
        row = (share.share, share.low, share.high, third, unauthentic, test.value, theta)
        rows.append({"kind": kind} | dict(zip(COLUMNS[3:], row, strict=True)))
    return rows


def main() -> None:
    """Measure what is not there yet, keep it, and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--planted", type=int, default=100)
    parser.add_argument("--spaces", nargs="+", default=["pixels", "values", "mobilenet", "taef2"])
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    asked = parser.parse_args()
    counts = {"points": asked.points, "samples": asked.samples, "planted": asked.planted, "criteria": rule.VERSION}
    file = RESULTS / "planted.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    rows = kept["rows"] if kept.get("counts") == counts else []
    for name in asked.sets:
        files = [DATA / file for file in SETS[name]]
        if not all(path.is_file() for path in files):
            print(f"{name} is not there: left out")
            continue
        train, rest = fs.load(files[0], subset=asked.points), fs.load(files[1], subset=2 * asked.samples)
        images = as_float(rest.rows(slice(None)))
        for where in asked.spaces:
            if any((row["set"], row["space"]) == (name, where) for row in rows):
                continue
            new = {"set": name, "space": where}
            found = measure(train, images[: asked.samples], images[asked.samples :], where, asked.planted)
            rows += [new | row for row in found]
            save("planted", {"counts": counts, "rows": rows})
            print(f"{name}, {where}: done", flush=True)
    table("Planted copies found", ["set", "space", "by", *KINDS], list(by_kind(rows)))


def by_kind(rows: list[dict[str, Any]]) -> Iterator[list[Any]]:
    """A line for each set, space and way to tell copies, with a column for each kind."""
    for name, where in sorted({(row["set"], row["space"]) for row in rows}):
        found = {row["kind"]: row for row in rows if (row["set"], row["space"]) == (name, where)}
        for told, column in WAYS.items():
            yield [name, where, told, *(f"{found[kind][column]:.2f}" for kind in KINDS)]


if __name__ == "__main__":
    main()
