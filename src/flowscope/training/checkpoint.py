"""Checkpoints: all that resuming a run needs, in one file, so that a run killed at any moment leaves a whole one."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowscope.core.files import digest_of_file, remove_file, write_atomic, write_files
from flowscope.core.run_folder import RunFolder, opened_folder, run_folder
from flowscope.core.schema import ArrayForm, check_arrays
from flowscope.core.tensors import to_numpy
from flowscope.errors import InputError, OutputError, ResumeError
from flowscope.networks.weights import plain_name
from flowscope.training.losses import BINS, COLUMNS
from flowscope.training.model_store import (
    ABOUT_FILE,
    ABOUT_KIND,
    CHECKPOINT_FILE,
    EMA_FILE,
    MODEL_FILE,
    Tensors,
    checkpoint_about,
    load_weights,
    read_about,
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
LOSSES, SAMPLES = "loss.csv", "samples.png"  # files
OPTIMIZER_FILE = "optimizer.safetensors"  # of a finished model: what training it on needs
FILES = (ABOUT_FILE, CHECKPOINT_FILE, MODEL_FILE, EMA_FILE, OPTIMIZER_FILE, LOSSES, SAMPLES)


def write_checkpoint(run: Run, out: Path) -> None:
    """Write the checkpoint of a run, in place of an earlier one.

    Raises:
        OutputError: it cannot be written; the earlier one is still there.
    """
    tensors = {f"weights|{k}": v for k, v in run.network.state_dict().items()}
    tensors |= {f"ema|{k}": v for k, v in run.ema.state_dict().items()} | _optimizer_tensors(run)
    write_atomic(out / CHECKPOINT_FILE, to_safetensors(tensors, {"about": json.dumps(run.about())}))


def _optimizer_tensors(run: Run) -> Tensors:
    """All that a run goes on with besides its weights."""
    named = [name for name, _ in run.network.named_parameters()]
    moments = run.optimizer.state_dict()["state"]
    tensors = {f"{kind}|{named[i]}": moments[i][kind] for i in moments for kind in ADAM_MOMENTS}
    rows = torch.tensor(run.losses.rows, dtype=torch.float64).reshape(-1, len(COLUMNS))
    return tensors | {"losses|rows": rows, "losses|sums": run.losses.sums}


def optimizer_file(run: Run, model_digest: str) -> bytes:
    """What a finished model needs to be trained on, beside its weights, whose digest it names."""
    return to_safetensors(_optimizer_tensors(run), {MODEL_FILE: model_digest})


def read_checkpoint(run: Run, out: Path, resume: bool) -> bool:
    """Bring a fresh run to where a checkpoint or a finished model left off.

    Args:
        run: at step 0.
        out: the folder.
        resume: False leaves the run as it is.

    Returns:
        Whether the run was resumed.

    Raises:
        ResumeError: the checkpoint is of another run, or cannot be read.
    """
    path = next((out / name for name in (CHECKPOINT_FILE, ABOUT_FILE) if (out / name).exists()), None)
    if not resume or path is None:
        return False
    finished = path.name == ABOUT_FILE
    try:
        about = read_about(out) if finished else checkpoint_about(path)
        check_same_run(run.about(), about, path)
        groups = _finished_groups(out, about) if finished else _groups(read_safetensors(path)[0])
        _check_groups(run, groups, about, path)
        load_weights(run.network, groups["weights"], path)
        load_weights(run.ema, groups["ema"], path)
    except InputError as error:
        raise ResumeError(f"{error}; or remove {path} to start anew") from None
    run.resume(about["step"], float(about["seconds"]))
    _restore_moments(run, groups)
    run.losses.rows = [tuple(row) for row in groups["losses"]["rows"].tolist()]
    run.losses.sums.copy_(groups["losses"]["sums"])
    return True


def _groups(tensors: Tensors) -> dict[str, Tensors]:
    groups: dict[str, Tensors] = {name: {} for name in GROUPS}
    for key, value in tensors.items():
        group, _, name = key.partition("|")
        groups.setdefault(group, {})[name] = value
    return groups


def _check_groups(run: Run, groups: dict[str, Tensors], about: Mapping[str, Any], path: Path) -> None:
    """Refuse tensors that are not all there, or not of their shapes; `load_weights` checks weights."""
    if about["step"] > run.settings.steps:
        raise InputError(f"{path} is at step {about['step']}; expected one of {run.settings.steps}: it is damaged")
    shapes = {plain_name(name): tuple(p.shape) for name, p in run.network.named_parameters()}
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


def _finished_groups(out: Path, about: Mapping[str, Any]) -> dict[str, Tensors]:
    """What a checkpoint holds, from the files of a finished model, which must be of one run."""
    if not (out / OPTIMIZER_FILE).exists():
        raise InputError(
            f"{out} has no {OPTIMIZER_FILE}, without which a finished model cannot be trained on; expected it as "
            "flowscope train leaves it: train anew in another folder"
        )
    moments, metadata = read_safetensors(out / OPTIMIZER_FILE)
    digests = {name: about.get("digests", {}).get(name) for name in (MODEL_FILE, EMA_FILE)}
    there = {name: digest_of_file(out / name) if (out / name).exists() else None for name in digests}
    if there != digests or metadata.get(MODEL_FILE) != digests[MODEL_FILE]:
        raise InputError(
            f"the weights in {out} are not those that {ABOUT_FILE} and {OPTIMIZER_FILE} name by their digests; "
            "expected all of one run"
        )
    weights, ema = (read_safetensors(out / name)[0] for name in digests)
    return {**_groups(moments), "weights": weights, "ema": ema}


def _restore_moments(run: Run, groups: dict[str, dict[str, Tensor]]) -> None:
    updates = torch.tensor(float(run.step))
    state = {
        # laid out in memory as the parameter is: a fused optimizer takes no other
        i: {"step": updates.clone(), **{kind: torch.empty_like(p).copy_(groups[kind][name]) for kind in ADAM_MOMENTS}}
        for i, (name, p) in enumerate((plain_name(k), p) for k, p in run.network.named_parameters())
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
    pairs = {key: (wanted[key], about.get(key)) for key in ("schema", "network")}
    pairs["held_out"] = (_comparable(wanted["held_out"]), _comparable(about.get("held_out")))
    pairs["data (digest)"] = (wanted["training_set"]["digest"], about.get("training_set", {}).get("digest"))
    kept = about.get("settings", {})
    pairs |= {k: (v, kept.get(k)) for k, v in wanted["settings"].items() if k not in CHANGEABLE_SETTINGS}
    other = {key: f"{key} ({was} there, {now} here)" for key, (now, was) in pairs.items() if now != was}
    if not other or (other.keys() == {"steps"} and _may_change_steps(wanted, about)):
        return
    raise ResumeError(
        f"{path} is of a run that differs in {', '.join(other.values())}; expected the same data and settings, or "
        "more --steps with the constant schedule: run with those, choose another --out, or begin anew with --overwrite "
        "instead of --resume (overwrite=True)"
    )


def _may_change_steps(wanted: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Whether a run may end at another step: what it has done so far would have been the same."""
    return bool(wanted["settings"]["schedule"] == "constant" and about["step"] <= wanted["settings"]["steps"])


def _comparable(held_out: Any) -> Any:
    """What was set aside; where that is nothing, it does not matter how."""
    return {"count": 0} if isinstance(held_out, Mapping) and held_out.get("count") == 0 else held_out


def check_vacant(out: Path, resume: bool, overwrite: bool) -> None:
    """Refuse to begin anew where a model was trained, if only in part.

    Raises:
        OutputError: there is one, and neither `resume` nor `overwrite` says what to do with it.
    """
    if resume or overwrite:
        return
    for name, what in ((ABOUT_FILE, "a finished model"), (CHECKPOINT_FILE, "a model that is trained in part")):
        if (out / name).exists():
            raise OutputError(
                f"{out} holds {what} ({name}); expected a folder without one: keep it and go on with --resume "
                "(resume=True), choose another --out, or replace it with --overwrite (overwrite=True)"
            )


def check_files(folder: RunFolder, further: Iterable[str], resumed: bool, page: Iterable[str] = ()) -> None:
    """Refuse files of the user's that a training would replace.

    Args:
        folder: of the model.
        further: names of files besides FILES that will be written.
        resumed: whether what was there was read and is of the same run; without a manifest it is taken over.
        page: names of files that only runs with a manifest have written.

    Raises:
        OutputError: the message names the file.
    """
    names = (*FILES, *further)
    if resumed and not folder.known:
        folder.adopt(names)
    folder.check((*names, *page))


def clear_model(out: Path) -> None:
    """Delete what an earlier run left in a folder; first the file that says that a model is finished."""
    remove_file(out / ABOUT_FILE)
    folder = opened_folder(out)
    if folder is not None:
        folder.clear()
    for name in (*FILES, *(snapshot_name(step) for step in snapshot_steps(out))):
        remove_file(out / name)


def forget_unfinished(out: Path) -> None:
    """Delete a model that was trained in part, if there is one and no finished one.

    Raises:
        OutputError: another run writes there, or a file is the user's.
    """
    if (out / CHECKPOINT_FILE).exists() and not (out / ABOUT_FILE).exists():
        with run_folder(out, "train"):
            clear_model(out)


def write_snapshot(run: Run, path: Path) -> None:
    """Write the averaged weights of a run as they are now."""
    write_files(path.parent, {path.name: to_safetensors(run.ema.state_dict(), {"step": str(run.step)})})
