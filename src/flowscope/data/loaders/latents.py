"""What LightningDiT keeps beside latents: their statistics, in `latents_stats.pt`, and those of mirror images."""

from pathlib import Path

FLIPPED = "latents_flip"  # the key of latents of mirror images
STATISTICS_FILE = "latents_stats.pt"


def find_statistics(folder: Path) -> Path | None:
    """The file of statistics in a folder of latents, if it has one."""
    path = folder / STATISTICS_FILE
    return path if path.exists() else None
