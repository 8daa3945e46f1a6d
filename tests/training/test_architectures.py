"""The networks that are trained: built for every side, from their seed alone, with labels that mean what they say."""

import pytest
import torch
from torch import Tensor, nn

from flowscope import InputError
from flowscope.networks import as_field
from flowscope.networks.architectures import build_network

SHAPES = {  # a model and the sides it is built for, narrow enough to be quick
    "unet": [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 9, 9), (1, 8, 12)],
    "dit-s": [(1, 8, 8), (4, 9, 9), (4, 32, 32)],
    "mlp": [(5,), (2, 3), (1, 8, 8)],
}
WIDTH = {"unet": 8, "dit-s": 64, "mlp": 16}


def shaken(network: nn.Module) -> nn.Module:
    """The same with every weight moved: networks begin as the zero field, which hides what they depend on."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for weight in network.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return network


@pytest.mark.slow
@pytest.mark.parametrize(("model", "shape"), [(m, s) for m, shapes in SHAPES.items() for s in shapes])
def test_every_network_begins_as_the_zero_field_and_then_depends_on_state_time_and_label(
    model: str, shape: tuple[int, ...]
) -> None:
    network = build_network(model, shape, 3, width=WIDTH[model])
    field = as_field(network, "flowscope", shape=shape)
    assert (field.classes, field.null) == (3, 3)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(field(x, 0.3, 1), torch.zeros_like(x))
        shaken(network)
        base = field(x, 0.3, 1)
        for other in (field(x + 1, 0.3, 1), field(x, 0.6, 1), field(x, 0.3, 2), field(x, 0.3)):
            assert float((other - base).abs().mean()) > 1e-4
        torch.testing.assert_close(field(x[:1], 0.3, 1), base[:1], atol=1e-4, rtol=1e-4)  # rows stay apart
        null = torch.tensor([3, 3])
        torch.testing.assert_close(field(x, 0.3), _plain(network, x, 300.0, null))


def _plain(network: nn.Module, x: Tensor, timestep: float, y: Tensor) -> Tensor:
    found = network(x, torch.full((len(x),), timestep), y)
    return found if isinstance(found, Tensor) else found.sample


@pytest.mark.parametrize("model", SHAPES)
def test_a_network_without_labels_takes_none(model: str) -> None:
    network = shaken(build_network(model, (1, 8, 8), width=WIDTH[model]))
    field = as_field(network, "flowscope", shape=(1, 8, 8), classes=0)
    assert torch.isfinite(field(torch.zeros(2, 1, 8, 8), 0.5)).all()
    with pytest.raises(InputError, match="takes no labels"):
        field(torch.zeros(2, 1, 8, 8), 0.5, 0)


@pytest.mark.parametrize("model", SHAPES)
def test_weights_come_from_the_seed_and_from_nothing_else(model: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_network(model, (1, 8, 8), 2, width=WIDTH[model], seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = (build_network(model, (1, 8, 8), 2, width=WIDTH[model], seed=seed) for seed in (4, 5))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.slow
def test_a_dit_drops_no_labels_by_itself() -> None:
    """diffusers' would, by a tenth, while it trains, from the global stream."""
    network = shaken(build_network("dit-s", (1, 8, 8), 3, width=64)).train()
    x, y = torch.zeros(64, 1, 8, 8), torch.ones(64, dtype=torch.int64)
    found = _plain(network, x, 500.0, y).detach()
    assert float((found - found[:1]).abs().max()) < 1e-4


def test_sides_are_halved_as_far_as_they_go() -> None:
    levels = {
        side: len(build_network("unet", (1, side, side), width=8).config["block_out_channels"])
        for side in (9, 8, 28, 32)
    }
    assert levels == {9: 1, 8: 3, 28: 3, 32: 4}
    assert [build_network("dit-s", (4, s, s), width=64).config["patch_size"] for s in (16, 17, 32)] == [1, 1, 2]


@pytest.mark.slow
def test_sizes_of_the_dits_are_those_of_the_paper() -> None:
    """arXiv 2212.09748, Table 1: depth, channels, heads."""
    with torch.device("meta"):  # nothing is allocated
        for model, sizes in {"dit-s": (12, 384, 6), "dit-b": (12, 768, 12), "dit-xl": (28, 1152, 16)}.items():
            config = build_network(model, (4, 32, 32), 1000).config
            heads = config["num_attention_heads"]
            assert (config["num_layers"], heads * config["attention_head_dim"], heads) == sizes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gan", (1, 8, 8)), "model is 'gan'"),
        (("unet", (5,)), 'take model "mlp"'),
        (("dit-s", (64, 1, 3)), 'take model "mlp"'),
        (("dit-s", (1, 8, 16)), "expects square images"),
        (("unet", (1, 8, 8), -1), "classes is -1"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments: tuple, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_network(*arguments)


@pytest.mark.parametrize(("model", "width"), [("unet", 12), ("unet", 0), ("dit-s", 72), ("dit-xl", 64)])
def test_a_width_that_does_not_fit_is_refused(model: str, width: int) -> None:
    with pytest.raises(InputError, match="width is"):
        build_network(model, (1, 8, 8), width=width)
