"""Labels reach the network that is trained, and are dropped once; or training is refused in words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flowscope import InputError, TrainingSet, sample
from flowscope.errors import FlowscopeWarning
from flowscope.training import TrainSettings, load_model, train, train_to
from tests.support.trainings import Own, tiny

TWO = TrainingSet(np.repeat([[-1.0] * 4, [1.0] * 4], 16, 0).astype(np.float32), labels=np.repeat([0, 1], 16))


class Labelled(nn.Module):
    """Somebody's network, with a table of `rows` labels; `classes` is what it says of them."""

    def __init__(self, rows: int, classes: int | None = None) -> None:
        super().__init__()
        self.table, self.body = nn.Embedding(rows, 8), nn.Sequential(nn.Linear(13, 64), nn.SiLU(), nn.Linear(64, 4))
        if classes is not None:
            self.num_classes = classes
        self.seen: list[Tensor | None] = []

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if self.training:
            self.seen.append(y)
        about = x.new_zeros(len(x), 8) if y is None else self.table(y)
        return self.body(torch.cat([x, t[:, None] / 1000, about], 1))


class LabelEmbedder(nn.Module):
    """SiT's and DiT's, which drops labels itself in training."""

    def __init__(self, num_classes: int, hidden_size: int, dropout_prob: float) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + (dropout_prob > 0), hidden_size)
        self.num_classes, self.dropout_prob = num_classes, dropout_prob
        self.given: list[Tensor] = []

    def forward(self, labels: Tensor, train: bool) -> Tensor:
        if train and self.dropout_prob > 0:
            dropped = torch.rand(len(labels), device=labels.device) < self.dropout_prob
            labels = torch.where(dropped, self.num_classes, labels)
        if train:
            self.given.append(labels)
        return self.embedding_table(labels)


class SiT(nn.Module):
    def __init__(self, dropout_prob: float) -> None:
        super().__init__()
        self.y_embedder, self.body = LabelEmbedder(2, 8, dropout_prob), nn.Linear(13, 4)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.body(torch.cat([x, t[:, None] / 1000, self.y_embedder(y, self.training)], 1))


@pytest.mark.parametrize("network", [Labelled(2), Own()], ids=["takes labels", "takes none"])
def test_labels_that_would_never_reach_the_network_are_refused(network: nn.Module, tmp_path: Path) -> None:
    points = TWO if isinstance(network, Labelled) else TrainingSet(TWO.points[:, :3], labels=TWO.labels)
    said = "labels 0 to 1, and the .* does not say that it takes any, .* expected an attribute num_classes = 2 "
    with pytest.raises(InputError, match=said):
        train_to(points, tiny(), tmp_path, network=network, tracker=None)
    assert not list(tmp_path.iterdir())
    *_, last = train(TrainingSet(points.points), tiny(), network=network)  # as the message says
    assert last.field.classes in (None, 0)


@pytest.mark.slow
def test_samples_of_a_class_are_of_the_class(tmp_path: Path) -> None:
    settings = TrainSettings(model="mlp", steps=400, batch=64, learning_rate=1e-2, warmup=10, ema=0.9)
    network = Labelled(3, 2)
    model = train_to(TWO, settings, tmp_path, network=network, tracker=None)
    field = load_model(model, network=Labelled(3, 2))
    assert (field.classes, field.null) == (2, 2)
    for label, mean in ((0, -1.0), (1, 1.0)):
        ends = sample(field, n=64, y=label, steps=20)
        assert ends.mean(0).tolist() == pytest.approx([mean] * 4, abs=0.15)
    given = torch.cat([y for y in network.seen if y is not None])
    assert len(given) == 400 * 64 and set(given.tolist()) == {0, 1, 2}


def test_a_table_without_a_row_for_no_label_is_refused_where_labels_are_dropped() -> None:
    said = r"cannot be given the label 2, which stands for no label \(its embedding has 2 rows\); expected a table of 3"
    with pytest.raises(InputError, match=said):
        train(TWO, tiny(label_dropout=0.1), network=Labelled(2, 2))
    with pytest.raises(InputError, match=said):  # and where there are no labels, so that all would be that label
        train(TrainingSet(TWO.points), tiny(), network=Labelled(2, 2))
    with pytest.raises(InputError, match=r"no embedding for no label; expected .* or label_dropout=0"):
        train(TWO, tiny(label_dropout=0.1), network=SiT(0.0))


@pytest.mark.parametrize("network", [Labelled(2, 2), SiT(0.0)], ids=["Labelled", "SiT"])
def test_without_dropout_such_a_table_is_trained_and_has_no_null_label(network: nn.Module, tmp_path: Path) -> None:
    model = train_to(TWO, tiny(label_dropout=0.0), tmp_path, network=network, tracker=None)
    given = network.seen if isinstance(network, Labelled) else network.y_embedder.given
    assert set(torch.cat(given).tolist()) == {0, 1}
    field = load_model(model, network=network)
    assert (field.classes, field.null) == (2, None)
    with pytest.raises(InputError, match="2 classes and no null label"):
        field(torch.zeros(2, 4), 0.5)


@pytest.mark.slow_but("0.3-*")
@pytest.mark.parametrize(("dropout", "classes", "null"), [(0.0, 2, None), (0.3, 2, 2), (1.0, 0, 2)])
def test_labels_that_were_never_trained_are_none_of_the_field(
    dropout: float, classes: int, null: int | None, tmp_path: Path
) -> None:
    field = load_model(train_to(TWO, tiny(label_dropout=dropout), tmp_path, tracker=None))
    assert (field.classes, field.null) == (classes, null)


@pytest.mark.slow
def test_labels_are_dropped_once() -> None:
    """SiT drops a tenth, and so does label_dropout: 0.1, not 1 - 0.9^2 = 0.19, of them."""
    network = SiT(0.1)
    with pytest.warns(FlowscopeWarning, match=r"drops labels itself \(its LabelEmbedder has dropout_prob 0.1\)"):
        *_, last = train(TWO, tiny(steps=100, batch=100, label_dropout=0.1), network=network)
    share = float((torch.cat(network.y_embedder.given) == 2).double().mean())
    assert share == pytest.approx(0.1, abs=0.012)  # four standard errors of 10,000
    assert network.y_embedder.dropout_prob == 0.1  # as it was
    assert ["drops labels itself" in note for note in last.field.about["notes"]] == [True]  # for pages of studies


def test_a_try_of_the_null_label_leaves_no_trace() -> None:
    network, before = Labelled(3, 2).train(), torch.get_rng_state()
    next(iter(train(TWO, tiny(label_dropout=0.1), network=network)))
    assert len(network.seen) == 1 and network.training  # the update's own call alone
    assert not network.table._forward_pre_hooks and torch.equal(torch.get_rng_state(), before)


def test_images_whose_labels_are_all_dropped_are_trained_to_the_end_and_shown(tmp_path: Path) -> None:
    images = TrainingSet(np.random.default_rng(0).random((6, 1, 4, 4)), labels=[0, 1] * 3)
    train_to(images, tiny(steps=2, label_dropout=1.0), tmp_path / "m", tracker=None)
    assert (tmp_path / "m" / "samples.png").exists()
    assert sample(load_model(tmp_path / "m"), n=2, steps=2).shape == (2, 1, 4, 4)
