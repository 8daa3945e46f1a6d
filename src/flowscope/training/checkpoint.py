"""Checkpoints: all that resuming a run needs, in one file, so that a run killed at any moment leaves a whole one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowscope.core.files import remove_file, write_atomic
from flowscope.core.schema import ArrayForm, check_arrays
from flowscope.core.tensors import to_numpy
from flowscope.errors import InputError, ResumeError
from flowscope.training.losses import BINS, COLUMNS
from flowscope.training.model_store import (
    ABOUT_FILE,
    ABOUT_KIND,
    CHECKPOINT_FILE,
    checkpoint_about,
    load_weights,
    read_safetensors,
    snapshot_name,
    snapshot_steps,
    to_safetensors,
)
from flowscope.training.trainer import Run

ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")  # tensors of AdamW's state for each parameter
GROUPS = ("weights", "ema", *ADAM_MOMENTS, "losses")  # of tensors in a checkpoint
LOSS_FORMS = {"rows": ArrayForm("f", (None, len(COLUMNS))), "sums": ArrayForm("f", (2, BINS))}
CHANGEABLE_SETTINGS = ("checkpoint_every",)  # those that may change when a run is resumed


def write_checkpoint(run: Run, out: Path) -> None:
    """Write the checkpoint of a run, in place of an earlier one.

    Raises:
        OutputError: it cannot be written; the earlier one is still there.
    """
    named = [name for name, _ in run.network.named_parameters()]
    moments = run.optimizer.state_dict()["state"]
    tensors = {f"weights|{k}": v for k, v in run.network.state_dict().items()}
    tensors |= {f"ema|{k}": v for k, v in run.ema.state_dict().items()}
    tensors |= {f"{kind}|{named[i]}": moments[i][kind] for i in moments for kind in ADAM_MOMENTS}
    rows = torch.tensor(run.losses.rows, dtype=torch.float64).reshape(-1, len(COLUMNS))
    tensors |= {"losses|rows": rows, "losses|sums": run.losses.sums}
    write_atomic(out / CHECKPOINT_FILE, to_safetensors(tensors, {"about": json.dumps(run.about())}))


def read_checkpoint(run: Run, out: Path, resume: bool) -> bool:
    """Bring a fresh run to where a checkpoint left off.

    Args:
        run: at step 0.
        out: the folder of the checkpoint.
        resume: False leaves the run as it is.

    Returns:
        Whether the run was resumed.

    Raises:
        ResumeError: the checkpoint is of another run, or cannot be read.
    """
    path = out / CHECKPOINT_FILE
    if not (resume and path.exists()):
        return False
    try:
        about = checkpoint_about(path)
        check_same_run(run.about(), about, path)
        groups = _read_groups(run, about, path)
        load_weights(run.network, groups["weights"], path)
        load_weights(run.ema, groups["ema"], path)
    except InputError as error:
        raise ResumeError(f"{error}; or remove {path} to start anew") from None
    run.resume(about["step"], float(about["seconds"]))
    _restore_moments(run, groups)
    run.losses.rows = [tuple(row) for row in groups["losses"]["rows"].tolist()]
    run.losses.sums.copy_(groups["losses"]["sums"])
    return True


def _read_groups(run: Run, about: Mapping[str, Any], path: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint by group, once all are there and have their shapes; `load_weights` checks weights."""
    if about["step"] > run.settings.steps:
        raise InputError(f"{path} is at step {about['step']}; expected one of {run.settings.steps}: it is damaged")
    groups: dict[str, dict[str, Tensor]] = {name: {} for name in GROUPS}
    for key, value in read_safetensors(path)[0].items():
        group, _, name = key.partition("|")
        groups.setdefault(group, {})[name] = value
    shapes = {name: tuple(p.shape) for name, p in run.network.named_parameters()}
    moments = [groups[kind] for kind in ADAM_MOMENTS]
    alike = all(m.keys() == moments[0].keys() <= shapes.keys() for m in moments)
    if len(groups) != len(GROUPS) or not alike:
        raise InputError(f"{path} holds other tensors than a run has; expected {ABOUT_KIND}")
    forms = {name: ArrayForm("f", shapes[name]) for name in moments[0]}
    for kind, own in zip(ADAM_MOMENTS, moments, strict=True):
        check_arrays({name: to_numpy(value, kind) for name, value in own.items()}, forms, f"{kind} in {path}")
    losses = {name: to_numpy(value, "losses") for name, value in groups["losses"].items()}
    if "rows" in losses and losses["rows"].size == 0:  # earlier versions wrote no columns before the first row
        losses["rows"] = losses["rows"].reshape(0, len(COLUMNS))
    check_arrays(losses, LOSS_FORMS, f"the losses in {path}")
    return groups


def _restore_moments(run: Run, groups: dict[str, dict[str, Tensor]]) -> None:
    updates = torch.tensor(float(run.step))
    state = {
        # laid out in memory as the parameter is: a fused optimizer takes no other
        i: {"step": updates.clone(), **{kind: torch.empty_like(p).copy_(groups[kind][name]) for kind in ADAM_MOMENTS}}
        for i, (name, p) in enumerate(run.network.named_parameters())
        if name in groups.get(ADAM_MOMENTS[0], {})  # a parameter that was never used has no moments
    }
    run.optimizer.load_state_dict({"state": state, "param_groups": run.optimizer.state_dict()["param_groups"]})


def check_same_run(wanted: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> None:
    """Refuse a file of another run.

    Args:
        wanted: the identity of this run, by :func:`flowscope.training.trainer.identity`.
        about: what the file says of its run.
        path: of the file.

    Raises:
        ResumeError: the message names what differs.
    """
    pairs = {key: (wanted[key], about.get(key)) for key in ("schema", "network", "held_out")}
    pairs["data (digest)"] = (wanted["training_set"]["digest"], about.get("training_set", {}).get("digest"))
    kept = about.get("settings", {})
    pairs |= {k: (v, kept.get(k)) for k, v in wanted["settings"].items() if k not in CHANGEABLE_SETTINGS}
    other = [f"{key} ({was} there, {now} here)" for key, (now, was) in pairs.items() if now != was]
    if other:
        raise ResumeError(
            f"{path} is of a run that differs in {', '.join(other)}; expected the same data and settings: "
            "run with those, or without --resume (resume=False), which starts anew"
        )


def clear_model(out: Path) -> None:
    """Delete the model of an earlier run in a folder; first the file that says that it is finished."""
    for name in (ABOUT_FILE, CHECKPOINT_FILE, *(snapshot_name(step) for step in snapshot_steps(out))):
        remove_file(out / name)


def write_snapshot(run: Run, path: Path) -> None:
    """Write the averaged weights of a run as they are now."""
    write_atomic(path, to_safetensors(run.ema.state_dict(), {"step": str(run.step)}))
