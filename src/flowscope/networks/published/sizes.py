"""What a checkpoint's weights and record say of its network: sizes, parts, its project, how it was trained."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from flowscope.errors import InputError
from flowscope.networks.published.checkpoint import Checkpoint
from flowscope.networks.published.transformer import Sizes
from flowscope.networks.weights import first_names

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16, 1536: 24, 1792: 28}  # by width: S, B, L, XL, 1p0B, 1p6B
USUAL_DROPOUT = 0.1  # of labels, in the training of all four projects
PATHS = {"linear": "linear", "gvp": "cosine", "cosine": "cosine", "vp": "vp"}  # by path_type
NEEDED = (  # tensors without which nothing is known of the sizes, and their axes
    ("x_embedder.proj.weight", 4),
    ("pos_embed", 3),
    ("y_embedder.embedding_table.weight", 2),
    ("blocks.0.attn.qkv.weight", 2),
    ("blocks.0.adaLN_modulation.1.weight", 2),
    ("final_layer.linear.weight", 2),
)
DROPPED = re.compile(r"projectors\.")  # REPA's, which its training alone uses


def without_projectors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that an answer depends on, under the names of today's code.

    REPA's projectors are dropped, and the `decoder_blocks` of its first files go on counting where `blocks` end.
    """
    count = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})

    def name(key: str) -> str:
        old = re.match(r"decoder_blocks\.(\d+)\.", key)
        return key if old is None else f"blocks.{int(old[1]) + count}.{key[old.end() :]}"

    return {name(key): value for key, value in tensors.items() if not DROPPED.match(key)}


def project_of(found: Checkpoint) -> str | None:
    """The convention that a checkpoint is of, by its record and the parts that only one project has; None if open."""
    model = model_name(found.record).lower()
    keys = found.tensors.keys()
    if any(DROPPED.match(key) for key in keys):
        return "repa"
    own = ("feat_rope.freqs_cos", "blocks.0.mlp.w12.weight", "blocks.0.norm1.weight")
    if any(key in keys for key in own) or model.startswith("lightningdit"):
        return "lightningdit"
    return next((name for name in ("sit", "dit") if model.startswith(name)), None)


def model_name(record: Mapping[str, Any]) -> str:
    """The name of the model in a record, such as SiT-XL/2; "" for none."""
    own = record.get("model")
    found = own.get("model_type") if isinstance(own, Mapping) else own
    return found if isinstance(found, str) else ""


def read_sizes(found: Checkpoint, tensors: Mapping[str, Tensor], heads: int | None = None) -> Sizes:
    """The sizes of the network that a checkpoint's weights are of.

    Args:
        found: the checkpoint, whose record is read.
        tensors: its weights, by `without_projectors`.
        heads: of attention, where neither weights nor record say.

    Raises:
        InputError: they are of another architecture, or of sizes that do not belong together.
    """
    check_parts(found, tensors)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    width, channels, patch, _ = shapes["x_embedder.proj.weight"]
    side = math.isqrt(shapes["pos_embed"][1])
    rows = shapes["y_embedder.embedding_table.weight"][0]
    gated = "blocks.0.mlp.w12.weight" in shapes
    hidden = shapes.get("blocks.0.mlp.w12.weight" if gated else "blocks.0.mlp.fc1.weight", (0,))[0]
    classes = _classes(found, rows)
    return Sizes(
        channels=channels,
        side=side * patch,
        patch=patch,
        width=width,
        depth=len({key.split(".")[1] for key in shapes if key.startswith("blocks.")}),
        heads=_heads(found, shapes, width, heads),
        hidden=hidden // 2 if gated else hidden,
        outputs=shapes["final_layer.linear.weight"][0] // patch**2,
        rows=rows,
        classes=classes,
        dropout=_dropout(found.record) if rows > classes else 0.0,
        rms="blocks.0.norm1.weight" in shapes,
        gated=gated,
        rotary="feat_rope.freqs_cos" in shapes,
        shifts=shapes["blocks.0.adaLN_modulation.1.weight"][0] != 4 * width,
        head_norm=_head_norm(shapes),
    )


def check_parts(found: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights without those that tell the sizes of a transformer of latents.

    Raises:
        InputError: the message names what is missing, and what belongs to no such transformer.
    """
    missing = [key for key, axes in NEEDED if key not in tensors or tensors[key].ndim != axes]
    if not missing:
        return
    known = re.compile(r"(x_embedder|t_embedder|y_embedder|pos_embed|feat_rope|blocks|final_layer)\b")
    other = sorted(key for key in tensors if not known.match(key))
    unexpected = f"; unexpected: {first_names(other)}" if other else ""
    raise InputError(
        f"{found.path} holds another architecture than DiT, SiT, REPA and LightningDiT: missing: "
        f"{first_names(missing)}{unexpected}; expected one of these, or a function that returns the network with its "
        "weights: --model mine.py:make --convention NAME"
    )


def _heads(found: Checkpoint, shapes: Mapping[str, tuple[int, ...]], width: int, given: int | None) -> int:
    """Heads of attention: by what is given, a norm or an angle of one head, the record, or the published widths."""
    size = shapes.get("blocks.0.attn.q_norm.weight", shapes.get("feat_rope.freqs_cos", (0,)))[-1]
    known = given or (width // size if size else None) or _said_heads(found.record) or HEADS.get(width)
    if not known:
        raise InputError(
            f"{found.path} has tokens of width {width}, and neither its weights nor its record say how many heads of "
            f"attention; expected a published width ({', '.join(map(str, HEADS))}), or how many: --heads N "
            "(heads=N in load_model)"
        )
    if width % known:
        raise InputError(f"{found.path} has tokens of width {width}, and heads are {known}; expected a divisor of it")
    return known


def _said_heads(record: Mapping[str, Any]) -> int | None:
    """The heads that a record names, itself or in a part of it such as "model"; None where it names none."""
    parts = [record, *(value for value in record.values() if isinstance(value, Mapping))]
    said = (part.get(name) for part in parts for name in ("num_heads", "heads", "num_attention_heads"))
    return next((heads for heads in said if type(heads) is int and heads > 0), None)


def _head_norm(shapes: Mapping[str, tuple[int, ...]]) -> str:
    if "blocks.0.attn.q_norm.weight" not in shapes:
        return ""
    return "layer" if "blocks.0.attn.q_norm.bias" in shapes else "rms"


def _classes(found: Checkpoint, rows: int) -> int:
    """The labels: all rows of the table but the last, which stands for none, unless the record says otherwise."""
    data = found.record.get("data")
    said = (data if isinstance(data, Mapping) else found.record).get("num_classes")
    if type(said) is not int:
        return rows - 1
    if said not in (rows, rows - 1):
        raise InputError(
            f"{found.path} says that it has {said} classes, and its table of labels has {rows} rows; expected as many "
            "as classes, or one more: it is damaged"
        )
    return said


def _dropout(record: Mapping[str, Any]) -> float:
    """The share of labels that training dropped: REPA's cfg_prob, else what all projects take."""
    said = record.get("cfg_prob", record.get("class_dropout_prob"))
    return float(said) if isinstance(said, (int, float)) and 0 < said < 1 else USUAL_DROPOUT


def trained_as(record: Mapping[str, Any]) -> dict[str, Any]:
    """The path and prediction that a record names, as attributes of a Convention; empty where it names none.

    Raises:
        InputError: it names others than flowscope knows.
    """
    own = record.get("transport")
    own = own if isinstance(own, Mapping) else record
    path, prediction = own.get("path_type"), own.get("prediction")
    changes: dict[str, Any] = {}
    if isinstance(path, str):
        if path.lower() not in PATHS:
            raise InputError(f"the checkpoint says path_type {path!r}; expected one of {', '.join(PATHS)}")
        changes["path"] = PATHS[path.lower()]
    if isinstance(prediction, str) and prediction != "v":
        if prediction not in ("velocity", "score", "noise"):
            raise InputError(f"the checkpoint says prediction {prediction!r}; expected velocity, score or noise")
        changes["prediction"] = prediction
    return changes
