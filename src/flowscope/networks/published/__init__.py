"""Models of other projects: checkpoints, folders of diffusers, functions in files."""

from flowscope.networks.published.extras import read_extras
from flowscope.networks.published.find import is_published, load_published
from flowscope.networks.published.network import read_network

__all__ = ["is_published", "load_published", "read_extras", "read_network"]
