"""Changes of a file: its bytes anywhere, or its structure, so that what holds the bytes together stays right."""

import contextlib
import hashlib
import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.torch
import torch

WHOLE = (-1, 0, 1, 2, 3, 64, 255, 2**16, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64, 10**30)
VALUES = (
    None,
    True,
    False,
    "",
    "x",
    "=1+1",
    "\ud800",
    0.5,
    -0.0,
    1e308,
    1e999,
    float("nan"),
    [],
    {},
    [[]],
    {"a": 1},
    *WHOLE,
)
DTYPES = ("f2", "f4", "f8", ">f4", "u1", "i1", "i8", "u8", "c8", "?", "U1", "S2", "V3", "M8[s]")
TORCH_DTYPES = (torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64,
                torch.float8_e4m3fn, torch.uint16)  # fmt: skip
SHAPES = ((), (0,), (3, 0), (1, 1, 1), (5,) * 4, (1,) * 33, (20_000_000,))  # of zeros; compressed, they take little
MOST_NUMBERS = 1 << 26  # of an array that is changed
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
CELLS = ("", "x", "nan", "inf", "-1", "1e400", "t", '"', "9" * 200_000, "a,b")


def mutate(folder: Path, rng: Random) -> str:
    """Change one file of a folder; return what was done, in words."""
    path = rng.choice(sorted(p for p in folder.rglob("*") if p.is_file()))
    way = BY_SUFFIX.get(path.suffix, change_bytes)
    if rng.random() < 0.4:
        way = change_bytes
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        with warnings.catch_warnings(), contextlib.suppress(Exception):  # of a file that was broken just now
            warnings.simplefilter("ignore")
            way(path, rng)
    if (folder / "model.json").exists() and path.suffix == ".safetensors" and rng.random() < 0.8:
        about = json.loads((folder / "model.json").read_text())
        about["digests"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / "model.json").write_text(json.dumps(about))
    return f"{way.__name__} of {path.relative_to(folder)}"


def change_bytes(path: Path, rng: Random) -> None:
    path.write_bytes(changed_bytes(path.read_bytes(), rng))


def changed_bytes(data: bytes, rng: Random) -> bytes:
    """Bytes flipped, cut off, doubled, or a number of 4 or 8 bytes in the place of others."""
    found = bytearray(data)
    at, kind = rng.randrange(max(1, len(found))), rng.randrange(6)
    if kind == 0:
        return bytes(found[:at])
    if kind == 1:
        return bytes(found[:at] + found[at // 2 :])
    if kind == 2:
        number = rng.choice([n for n in WHOLE if 0 <= n < 2**63])
        found[at : at + 8] = struct.pack(rng.choice("<>") + "Q", number)
    elif kind == 3:
        found[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice([n for n in WHOLE if 0 <= n < 2**32]))
    else:
        for _ in range(rng.randrange(1, 9)):
            if found:
                found[min(rng.randrange(at, at + 64), len(found) - 1)] = rng.randrange(256)
    return bytes(found)


def changed_value(value: Any, rng: Random) -> Any:
    """A value of JSON of which one part is another value, is missing, doubled or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key, kind = rng.choice(sorted(value)), rng.randrange(8)
        rest = {k: v for k, v in value.items() if k != key}
        if kind == 0:
            return rest
        if kind == 1:
            return {**rest, rng.choice(("", "x", "schema", f"{key}x")): value[key]}
        return {**value, key: changed_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at, kind = rng.randrange(len(value)), rng.randrange(6)
        if kind == 0:
            return value[:at] + value[at + 1 :]
        if kind == 1:
            return value + value[at:]
        return [*value[:at], changed_value(value[at], rng), *value[at + 1 :]]
    return rng.choice(VALUES)


def change_json(path: Path, rng: Random) -> None:
    text = json.dumps(changed_value(json.loads(path.read_text(errors="replace")), rng))
    if rng.random() < 0.02:
        text = text.replace("{", '{"deep": ' + "[" * 5000 + "]" * 5000 + ", ", 1)
    path.write_text(text)


def changed_array(array: np.ndarray, rng: Random) -> np.ndarray:
    """An array of another dtype, shape, or with other values."""
    if array.size > MOST_NUMBERS:  # of 0 bytes each, as a header claimed
        raise ValueError("numpy would go through them one by one")
    kind = rng.randrange(7)
    with contextlib.suppress(ValueError, TypeError, OverflowError), np.errstate(all="ignore"):
        if kind == 0:
            return array.astype(rng.choice(DTYPES))
        if kind == 1:
            return array[..., None] if rng.random() < 0.5 else array.reshape(-1)
        if kind == 2:
            return array[: rng.randrange(len(array) + 1)] if array.ndim else array[None]
        if kind == 3:
            return np.zeros(rng.choice(SHAPES), array.dtype.str[:3])
        if kind == 4 and array.dtype.kind == "U":
            return np.frombuffer(array.tobytes(), np.uint32).copy().__ior__(rng.getrandbits(32)).view(array.dtype)
        if array.size:
            array = array.copy()
            array.flat[rng.randrange(array.size)] = rng.choice((0, 1, -1, np.nan, np.inf, 1e300, 2**62, 255))
    return array


def npy_bytes(array: np.ndarray, rng: Random) -> bytes:
    """An .npy file, whose header sometimes claims another shape or dtype."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    data = stream.getvalue()
    if rng.random() < 0.3:
        shape = tuple(rng.choice(WHOLE) for _ in range(rng.randrange(5)))
        header = {"descr": rng.choice((array.dtype.str, *DTYPES, "O", "V0", "U0")), "fortran_order": rng.random() < 0.2}
        stream = io.BytesIO()
        with contextlib.suppress(ValueError):
            np.lib.format.write_array_header_2_0(stream, header | {"shape": shape})
            data = stream.getvalue() + array.tobytes()
    return data


def change_npy(path: Path, rng: Random) -> None:
    path.write_bytes(npy_bytes(changed_array(np.load(path), rng), rng))


def change_npz(path: Path, rng: Random) -> None:
    """An archive of which an array is changed, renamed, doubled, missing or compressed in another way."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at, kind = rng.randrange(len(entries)), rng.randrange(8)
    name, data = entries[at]
    if kind == 0:
        del entries[at]
    elif kind == 1:
        entries[at] = (
            rng.choice(("points", "x.npy", name.removesuffix(".npy"), "group|name|x.npy", "images.npy")),
            data,
        )
    elif kind == 2:
        entries.append((rng.choice((name, name.removesuffix(".npy"))), npy_bytes(np.zeros(9), rng)))
    elif name == "identity.npy" and kind > 4:
        about = json.loads(np.load(io.BytesIO(data)).tobytes())
        text = json.dumps(changed_value(about, rng) if rng.random() < 0.5 else about).encode("utf-8", "replace")
        entries[at] = (name, npy_bytes(np.frombuffer(text, np.uint8), rng))
    else:
        with contextlib.suppress(ValueError, EOFError):
            entries[at] = (name, npy_bytes(changed_array(np.load(io.BytesIO(data)), rng), rng))
    method = rng.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    )
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)


def changed_tensor(tensor: Any, rng: Random) -> Any:
    """A tensor of another dtype, layout, device or shape, or no tensor."""
    if not isinstance(tensor, torch.Tensor):
        return rng.choice((None, 3, "x", [], ["a"], [1, 2], {"a": 1}, tensor, [tensor], 1j, b"x", {1, 2}))
    ways: tuple[Callable[[], Any], ...] = (
        lambda: tensor.to(rng.choice(TORCH_DTYPES)),
        lambda: tensor.to("meta"),
        tensor.to_sparse,
        lambda: torch.nested.nested_tensor([tensor, tensor[:1]], layout=rng.choice((torch.strided, torch.jagged))),
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8),
        lambda: tensor[:1].expand(2**20, *tensor.shape[1:]),
        lambda: torch.nn.Parameter(tensor),
        lambda: torch.full((12,), 1 + 2j).conj().imag,
        lambda: tensor.transpose(0, -1),
        lambda: tensor[:0],
        tensor.tolist,
        lambda: torch.full_like(tensor, rng.choice((0, 1, 5, 255))),
        lambda: torch.as_tensor(changed_array(tensor.float().numpy(), rng)),
    )
    try:
        return rng.choice(ways)()
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None


def change_pt(path: Path, rng: Random) -> None:
    """A value of the dict changed, or the pickle within the archive."""
    if zipfile.is_zipfile(path) and rng.random() < 0.4:
        with zipfile.ZipFile(path) as archive:
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in entries:
                archive.writestr(name, changed_bytes(data, rng) if name.endswith(".pkl") else data)
        return
    saved = torch.load(path, weights_only=True)
    key = rng.choice(sorted(saved))
    value = changed_tensor(saved[key], rng)
    torch.save(rng.choice(({**saved, key: value}, {**saved, key: value}, value, {**saved, "images": value})), path)


def change_safetensors(path: Path, rng: Random) -> None:
    """The header or the metadata changed as JSON, or the tensors by name, dtype and shape."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tensors = safetensors.torch.load(data)
    metadata, kind = header.get("__metadata__", {}), rng.randrange(3)
    if kind == 0:
        head = json.dumps(changed_value(header, rng)).encode()
        path.write_bytes(struct.pack("<Q", len(head)) + head + data[8 + length :])
        return
    if kind == 1 and "about" in metadata:
        metadata["about"] = json.dumps(changed_value(json.loads(metadata["about"]), rng))
    elif tensors:
        key = rng.choice(sorted(tensors))
        name = rng.choice((key, key, key, f"{key}x", key.split("|")[-1], "weights|", "losses|x"))
        value = changed_tensor(tensors.pop(key), rng)
        tensors |= {name: value} if isinstance(value, torch.Tensor) and rng.random() < 0.9 else {}
    safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata)


def change_png(path: Path, rng: Random) -> None:
    """The header of a PNG, with a right checksum: sizes, depth, kind of colour, interlacing."""
    data = bytearray(path.read_bytes())
    sizes = (0, 1, 8, 9000, 9400, 40_000, 2**31 - 1)
    struct.pack_into(">II", data, 16, rng.choice(sizes), rng.choice(sizes))
    if rng.random() < 0.5:
        data[24:26] = bytes((rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6))))
        data[28] = rng.randrange(2)
    struct.pack_into(">I", data, 29, zlib.crc32(bytes(data[12:29])))
    path.write_bytes(bytes(data))


def change_csv(path: Path, rng: Random) -> None:
    rows = [line.split(",") for line in path.read_text(errors="replace").splitlines()]
    if rows and (row := rng.choice(rows)):
        row[rng.randrange(len(row))] = rng.choice(
            ("", "x", "nan", "inf", "-1", "1e400", "t", '"', "9" * 200_000, "a,b")
        )
    path.write_text("\n".join(",".join(row) for row in rows))


BY_SUFFIX = {
    ".json": change_json, ".npy": change_npy, ".npz": change_npz, ".pt": change_pt, ".safetensors": change_safetensors,
    ".png": change_png, ".csv": change_csv,
}  # fmt: skip
