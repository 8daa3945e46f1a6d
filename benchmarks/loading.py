"""Images a second: a folder of JPEG files decoded by flowscope, beside a bare loop of Pillow over the same files.

    python benchmarks/loading.py [--images 100000] [--quick]

The files are CIFAR-10's JPEG bytes (in the folder that FLOWSCOPE_DATA names, else ../shared/data) and, beyond its
50,000, their mirror images, saved again. Both decode the same part of the files in turn, and who begins changes from
part to part. Seconds are those of the processor, so that the load of the machine does not count. The bare loop does
what every reader must: open, convert to RGB, copy into one array. flowscope also looks at formats, EXIF tags,
transparency, depth and sizes.

Memory is the growth of a process while it decodes so many images, beyond their pixels.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageOps

import flowscope as fs
from _harness import save, table
from flowscope.data.image_cache import CachePolicy
from flowscope.data.loaders.image_folder import load_folder

DATA = Path(os.environ.get("FLOWSCOPE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
CIFAR = DATA / "cifar10_jpegbytes_train.npz"
PART = 2_000  # images that one decodes before it is the other's turn
FIRST = 100  # images that a process decodes before its memory is looked at
QUICK_IMAGES = 4_000
MEMORY_SHARES = (0.1, 1.0)  # of the images, whose memory is measured
MIB = 1 << 20


def write_files(root: Path, count: int) -> list[Path]:
    """Write JPEG files into a folder a class; their paths, in the order in which flowscope reads them."""
    with np.load(CIFAR) as found:
        content, offsets, labels = found["jpeg"], found["offsets"], found["labels"]
    own = len(offsets) - 1
    for k in range(count):
        at = k % own
        data = content[offsets[at] : offsets[at + 1]].tobytes()
        if k >= own:
            again = io.BytesIO()
            ImageOps.mirror(Image.open(io.BytesIO(data))).save(again, "JPEG", quality=90)
            data = again.getvalue()
        place = root / str(labels[at])
        place.mkdir(exist_ok=True)
        (place / f"{k:06d}.jpg").write_bytes(data)
    return [path for folder in sorted(root.iterdir()) for path in sorted(folder.iterdir())]


def decode_bare(paths: list[Path]) -> np.ndarray:
    """A loop of Pillow over files of one size."""
    pixels = np.empty((len(paths), 3, 32, 32), np.uint8)
    for k, path in enumerate(paths):
        with Image.open(path) as image:
            pixels[k] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return pixels


def compare(root: Path, paths: list[Path]) -> list[float]:
    """Images a second of flowscope and of the bare loop, and their ratio, as medians over parts."""
    images = load_folder(root).values
    seconds: dict[str, list[float]] = {"flowscope": [], "bare": []}
    for number, start in enumerate(range(0, len(paths), PART)):
        stop = min(start + PART, len(paths))
        found = {}
        for name in ("flowscope", "bare") if number % 2 else ("bare", "flowscope"):
            began = time.process_time()
            decoded = images.decode(np.arange(start, stop)).pixels if name == "flowscope" else None
            found[name] = decode_bare(paths[start:stop]) if decoded is None else decoded
            seconds[name].append((time.process_time() - began) / (stop - start))
        assert np.array_equal(found["flowscope"], found["bare"])
    own, bare = (1 / statistics.median(seconds[name]) for name in ("flowscope", "bare"))
    ratio = statistics.median(b / a for a, b in zip(seconds["flowscope"], seconds["bare"], strict=True))
    return [own, bare, ratio]


def memory(root: Path, count: int) -> float:
    """MiB that a process takes while it decodes so many images, beyond their pixels and what it took before."""
    command = [sys.executable, __file__, "--memory-of", str(root), "--images", str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_memory(root: Path, count: int) -> None:
    """In a process of its own: print what `memory` reads."""
    images = load_folder(root).values
    images.decode(np.arange(FIRST))
    before = most_memory()
    pixels = images.decode(np.arange(count)).pixels
    print((most_memory() - before - pixels.nbytes) / MIB)


def most_memory() -> int:
    """Bytes that this process had resident at most; getrusage would count those of the process that started it, too."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def again(root: Path, cache: Path) -> list[float]:
    """Seconds of the whole `load`: the first time, and from the cache."""
    os.environ["FLOWSCOPE_CACHE"] = str(cache)
    seconds = []
    for _ in range(2):
        began = time.process_time()
        fs.load(root, cache=CachePolicy(images=1, settled_seconds=0))
        seconds.append(time.process_time() - began)
    return seconds


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="4,000 images, and nothing is saved")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.memory_of is not None:
        measure_memory(asked.memory_of, asked.images)
        return
    if not CIFAR.is_file():
        print(f"{CIFAR} is not there: set FLOWSCOPE_DATA to the folder that holds it")
        return
    count = QUICK_IMAGES if asked.quick else asked.images
    with TemporaryDirectory() as place:
        root = Path(place, "images")
        root.mkdir()
        speed = compare(root, write_files(root, count))
        grown = [memory(root, int(share * count)) for share in MEMORY_SHARES]
        loads = again(root, Path(place, "cache"))
    columns = ["images", "flowscope, a second", "bare Pillow, a second", "ratio"]
    columns += [*(f"MiB beyond {int(share * count):,}" for share in MEMORY_SHARES), "load, s", "load from the cache, s"]
    row = [count, *speed, *grown, *loads]
    table("JPEG files of 32 x 32 pixels, decoded by one thread", columns, [row])
    if not asked.quick:
        save("loading", {"rows": [dict(zip(columns, row, strict=True))]})


if __name__ == "__main__":
    main()
