"""The monitor in scripts of accelerate and Lightning: what reaches their trackers, when, and what is refused."""

import csv
import dataclasses
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from torch import Tensor

import flowscope as fs
from flowscope.data.split import split
from flowscope.errors import FlowscopeWarning, InputError, MissingExtraError
from flowscope.integrations.accelerate import AccelerateMonitor
from flowscope.integrations.lightning import LightningMonitor
from flowscope.integrations.periodic import check_whole, tracker_row
from tests.support.lightning import lightning

TRAIN, HELD = split(fs.load("mixture:N=60,D=6,modes=3,spread=0.6"), 20)
NAMES = ("loss", "floor", "excess", "oracle_loss", "gap")
EVERY_TRACKER = re.compile(r"[\w\-. :/]+")  # what MLflow takes, the strictest of them


class Kept(GeneralTracker):
    """A tracker of somebody's own, which keeps what it is given."""

    name, requires_logging_directory = "kept", False
    main_process_only = True

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, Any]]] = []

    @property
    def tracker(self) -> "Kept":
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        pass

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        assert step is not None
        self.rows.append((step, values))


class Net(torch.nn.Module):
    """A network that says how far it is: it goes from one velocity to another with its one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return -x + self.weight * t[:, None]


@pytest.fixture
def kept() -> tuple[Accelerator, Kept]:
    tracker = Kept()
    accelerator = Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("run")
    return accelerator, tracker


@pytest.mark.slow
def test_accelerate_logs_what_the_monitor_measures_at_its_interval(kept: tuple[Accelerator, Kept]) -> None:
    accelerator, tracker = kept
    model, plain = accelerator.prepare(Net()), fs.Monitor(fs.Oracle(TRAIN), HELD, bins=4, probes=16)
    monitor = AccelerateMonitor(accelerator, TRAIN, HELD, interval=3, samples=4, sampling_steps=4, bins=4, probes=16)
    for step in range(7):
        with torch.no_grad():
            model.weight.add_(0.1)
        found = [monitor(model, step) for _ in range(2)]  # asked twice at a step, as with accumulated gradients
        assert found[1] is None and (found[0] is None) == (step % 3 > 0)
    assert [step for step, _ in tracker.rows] == [0, 3, 6] and model.training
    last = dict(tracker.rows[-1][1])
    expected = plain(model, 6)
    for name in NAMES:
        assert last[f"flowscope/{name}"] == expected.total[name]
        for snr, value in zip(expected.log_snr, getattr(expected, name), strict=True):
            assert last[f"flowscope/{name}/log_snr_{snr:.4g}"] == value
    assert len(last) == len(expected.total) + 4 * len(NAMES)
    for _, row in tracker.rows:
        assert all(EVERY_TRACKER.fullmatch(key) and type(value) is float for key, value in row.items())
    own = plain.memorised(Net(), 4, 4)
    first = tracker.rows[0][1]
    assert "flowscope/memorised" not in last and first["flowscope/memorised_held_out"] == own.null_share


def test_a_model_that_copies_is_said_to_and_needs_no_held_out_points(kept: tuple[Accelerator, Kept]) -> None:
    accelerator, tracker = kept
    oracle = fs.Oracle(TRAIN)
    monitor = AccelerateMonitor(accelerator, oracle, samples=4, bins=2, probes=8, memorised_every=1, interval=1)
    monitor(oracle, 5)
    (step, row), ends = tracker.rows[0], [tracker.rows[0][1][f"flowscope/memorised_{end}"] for end in ("low", "high")]
    assert step == 5 and row["flowscope/memorised"] == 1 == ends[1] and 0.3 < ends[0] < 1
    assert abs(row["flowscope/oracle_loss"]) < 1e-9
    assert not any("gap" in name or "held_out" in name for name in row)


def test_many_parts_of_time_keep_names_of_their_own() -> None:
    found = fs.Monitor(fs.Oracle(TRAIN), bins=2, probes=8)(fs.Oracle(TRAIN), 0)
    t = torch.arange(0.5, 1000).double() / 1000
    arrays = dict.fromkeys(("loss", "floor", "excess", "oracle_loss"), t.numpy())
    many = dataclasses.replace(found, log_snr=2 * torch.logit(t).numpy(), **arrays)
    assert len(tracker_row(many)) == len(found.total) + 4 * 1000


def test_nothing_is_logged_in_silence() -> None:
    accelerator = Accelerator(cpu=True)
    monitor = AccelerateMonitor(accelerator, TRAIN, samples=0, bins=2, probes=8)
    with pytest.warns(FlowscopeWarning, match="no trackers, so nothing is logged: .*init_trackers"):
        assert monitor(lambda x, t, y: -x, 0) is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AccelerateMonitor(None, TRAIN), "accelerator is a NoneType; expected accelerate's Accelerator"),
        (lambda: AccelerateMonitor(Accelerator(cpu=True), TRAIN, interval=0), "interval is 0; expected"),
        (lambda: AccelerateMonitor(Accelerator(cpu=True), TRAIN, samples=-1), "samples is -1; expected"),
        (lambda: AccelerateMonitor(Accelerator(cpu=True), TRAIN, HELD, probes=3), "probes is 3 in 10 bins"),
        (lambda: AccelerateMonitor(Accelerator(cpu=True), TRAIN)(torch.nn.Linear(6, 6), 0), r"model\(x, t, y\)"),
        (lambda: check_whole(["MULTI_GPU"], "DDP") or check_whole(["FSDP"], "FSDP"), "trained by FSDP, where no"),
        (lambda: check_whole(["DeepSpeedStrategy"], "DeepSpeedStrategy"), "by DeepSpeedStrategy, .*a copy each"),
    ],
)
def test_what_cannot_be_used_is_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.skipif(lightning is not None, reason="lightning is installed")
def test_without_lightning_the_extra_is_named() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'flowscope\[lightning\]'"):
        LightningMonitor(TRAIN)


@pytest.mark.slow
@pytest.mark.skipif(lightning is None, reason="lightning is not installed: pip install 'flowscope[lightning]'")
def test_lightning_logs_what_the_monitor_measures_whatever_its_own_interval(tmp_path: Path) -> None:
    class Module(lightning.pytorch.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, batch: Any, _: int) -> Tensor:
            return (self.net(batch[0], batch[0].new_ones(len(batch[0]))) - 1).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    points = torch.utils.data.TensorDataset(torch.as_tensor(TRAIN.points).float())
    how = {"bins": 4, "probes": 16, "samples": 4, "sampling_steps": 4}
    monitor, module = LightningMonitor(TRAIN, HELD, model=lambda m: m.net, interval=2, **how), Module()
    logger = lightning.pytorch.loggers.CSVLogger(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's own advice
        trainer = lightning.pytorch.Trainer(
            max_steps=5,
            accumulate_grad_batches=2,
            accelerator="cpu",
            logger=logger,
            callbacks=[monitor],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(module, torch.utils.data.DataLoader(points, batch_size=4))
        with pytest.raises(InputError, match=r"Module has no forward\(x, t, y\).*as_field"):
            LightningMonitor(TRAIN).setup(trainer, module, "fit")
    rows = list(csv.DictReader(Path(logger.log_dir, "metrics.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [2, 4]
    assert rows[0]["flowscope/memorised"] and not rows[1]["flowscope/memorised"]
    assert monitor.measurement.step == 4
    for name in NAMES:
        assert float(rows[1][f"flowscope/{name}"]) == monitor.measurement.total[name]
    assert float(trainer.callback_metrics["flowscope/gap"]) == pytest.approx(monitor.measurement.total["gap"])
