"""Make the pictures of the documentation: python docs/make_figures.py

images/digits.png is the figure that `flowscope stages digits` writes. images/paths.png shows one training set on all
four paths against log-snr: the curves lie on one another, since a path only sets the clock.
"""

from pathlib import Path

import numpy as np
import torch

import flowscope as fs
from flowscope.core.files import write_files
from flowscope.figures import path_figure, stage_figure, to_png
from flowscope.paths import PATHS

IMAGES = Path(__file__).resolve().parent / "images"
LOG_SNR = np.linspace(-8, 8, 65)  # within what every path passes: ve starts at -8.8, vp ends near 9.1 at t = 0.999


def on_all_paths(data: fs.TrainingSet) -> list[fs.StageCurve]:
    """The curve of one set on each path, at times of equal log-snr."""
    snr = torch.as_tensor(np.exp(LOG_SNR))
    return [fs.stages(fs.Oracle(data, path), path.time_of_snr(snr), probes=256) for path in PATHS.values()]


def main() -> None:
    data = fs.load("digits")
    figures = {"digits.png": stage_figure(fs.stages(data)), "paths.png": path_figure(on_all_paths(data))}
    write_files(IMAGES, {name: to_png(figure) for name, figure in figures.items()})


if __name__ == "__main__":
    main()
