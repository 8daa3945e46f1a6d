"""The state of a run in one file: all that going on needs, so that no moment of a kill leaves half of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowscope.core.files import remove_file, write_atomic
from flowscope.errors import InputError, ResumeError
from flowscope.training.model_store import ABOUT, STATE, about_state, fit, pack, snapshot_name, snapshot_steps, unpack
from flowscope.training.trainer import Run

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's, beside the number of updates, which is the run's
FREE = ("checkpoint_every",)  # settings that may change when a run is resumed


def write_state(run: Run, out: Path) -> None:
    """Write the run as it stands, in place of what was there.

    Raises:
        OutputError: it cannot be written; what was there before is still there.
    """
    named = [name for name, _ in run.network.named_parameters()]
    moments = run.optimizer.state_dict()["state"]
    tensors = {f"weights|{k}": v for k, v in run.network.state_dict().items()}
    tensors |= {f"ema|{k}": v for k, v in run.ema.state_dict().items()}
    tensors |= {f"{kind}|{named[i]}": moments[i][kind] for i in moments for kind in MOMENTS}
    tensors |= {"losses|rows": torch.tensor(run.losses.rows, dtype=torch.float64), "losses|sums": run.losses.sums}
    write_atomic(out / STATE, pack(tensors, {"about": json.dumps(run.about())}))


def read_state(run: Run, out: Path, resume: bool) -> bool:
    """Bring a fresh run to where the state in `out` is. Returns whether there was one.

    Raises:
        ResumeError: the state is of another run, or cannot be read.
    """
    path = out / STATE
    if not (resume and path.exists()):
        return False
    try:
        check_same(run.about(), about_state(path), path)
        tensors, metadata = unpack(path)
        groups: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            group, _, name = key.partition("|")
            groups.setdefault(group, {})[name] = value
        fit(run.network, groups["weights"], path)
        fit(run.ema, groups["ema"], path)
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
        i: {"step": updates.clone(), **{kind: torch.empty_like(p).copy_(groups[kind][name]) for kind in MOMENTS}}
        for i, (name, p) in enumerate(run.network.named_parameters())
        if name in groups.get(MOMENTS[0], {})  # a parameter that was never used has none
    }
    run.optimizer.load_state_dict({"state": state, "param_groups": run.optimizer.state_dict()["param_groups"]})


def check_same(wanted: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> None:
    """Refuse what was kept of another run.

    Args:
        wanted: what this run is of, as :func:`flowscope.training.trainer.identity` says.
        about: what the file says.

    Raises:
        ResumeError: the message names what differs.
    """
    pairs = {key: (wanted[key], about.get(key)) for key in ("schema", "network", "held_out")}
    pairs["data (digest)"] = (wanted["training_set"]["digest"], about.get("training_set", {}).get("digest"))
    kept = about.get("settings", {})
    pairs |= {k: (v, kept.get(k)) for k, v in wanted["settings"].items() if k not in FREE}
    other = [f"{key} ({was} there, {now} here)" for key, (now, was) in pairs.items() if now != was]
    if other:
        raise ResumeError(
            f"{path} is of a run that differs in {', '.join(other)}; expected the same data and settings: "
            "run with those, or without --resume (resume=False), which starts anew"
        )


def clear(out: Path) -> None:
    """Delete what an earlier run left in the folder; first the file that says that it is finished."""
    for name in (ABOUT, STATE, *(snapshot_name(step) for step in snapshot_steps(out))):
        remove_file(out / name)


def write_snapshot(run: Run, path: Path) -> None:
    """The averaged weights as they are now."""
    write_atomic(path, pack(run.ema.state_dict(), {"step": str(run.step)}))
