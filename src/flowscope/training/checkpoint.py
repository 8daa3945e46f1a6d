"""Checkpoints: all that resuming a run needs, in one file, so that a run killed at any moment leaves a whole one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowscope.core.files import remove_file, write_atomic
from flowscope.errors import InputError, ResumeError
from flowscope.training.model_store import (
    ABOUT_FILE,
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
    tensors |= {"losses|rows": torch.tensor(run.losses.rows, dtype=torch.float64), "losses|sums": run.losses.sums}
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
        check_same_run(run.about(), checkpoint_about(path), path)
        tensors, metadata = read_safetensors(path)
        groups: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            group, _, name = key.partition("|")
            groups.setdefault(group, {})[name] = value
        load_weights(run.network, groups["weights"], path)
        load_weights(run.ema, groups["ema"], path)
    except (InputError, KeyError) as error:
        raise ResumeError(f"{error}; or remove {path} to start anew") from None
    about = json.loads(metadata["about"])
    run.resume(int(about["step"]), float(about["seconds"]))
    _restore_moments(run, groups)
    run.losses.rows = [tuple(row) for row in groups["losses"]["rows"].tolist()]
    run.losses.sums.copy_(groups["losses"]["sums"])
    return True


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
