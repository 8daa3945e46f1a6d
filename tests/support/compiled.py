"""Compiles the kernels of the fused pass for a device that need not be there; test_fused.py runs it.

Sizes are those of 256 states, or one, and points of 4096 coordinates. A kernel that needs more shared memory than such
a device has is refused.
"""

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from flowscope.oracle.engines.cuda import kernels

SHARED = {80: 163 << 10, 90: 227 << 10}
FLOATS = (
    "units",
    "slopes",
    "norms",
    "log_weights",
    "logits",
    "tops",
    "masses",
    "seconds",
    "levels",
    "bounds",
    "vectors",
)
TYPES = dict.fromkeys(FLOATS, "*fp32") | {"unit": "fp32", "scale": "fp32"}
FORMS = {"fp16": (2, "ieee", 64), "fp32": (1, "tf32x3", 32)}


def compile_kernel(kernel: Any, stored: str, capability: int, stages: int = 3, **constants: Any) -> int:
    """The kernel for points stored so; the bytes of shared memory it needs."""
    given = TYPES | dict.fromkeys(("points", "queries", "weights"), f"*{stored}")
    if kernel is kernels.rows_kernel:
        given["queries"] = "*fp32"
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else given.get(name, "i32") for name in names}
    whole = ("D", "stride", "B")  # multiples of 16
    aligned = [n for n in names if signature[n].startswith("*") or (n in whole and n not in constants)]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    options = {"num_warps": 8, "num_stages": stages, "enable_fp_fusion": True}
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return int(made.metadata.shared)


def main(capability: int) -> None:
    stages, states = (3, 128) if capability >= 90 else (2, 64)  # as `tiles` of launch.py chooses
    for stored, (pieces, precision, depth) in FORMS.items():
        product = {"PIECES": pieces, "PRECISION": precision, "WIDEN": False, "BB": states}
        needs = {
            "logits": compile_kernel(
                kernels.logits_kernel, stored, capability, stages, D=4096, BN=128, BD=depth, **product
            ),
            "sums": compile_kernel(
                kernels.sums_kernel, stored, capability, stages, EACH=8192, BN=depth, BD=128, **product
            ),
            "weigh": compile_kernel(kernels.weigh_kernel, stored, capability, PIECES=pieces, BN=64, BB=64),
            "rows": compile_kernel(kernels.rows_kernel, stored, capability, B=1, EACH=2048, BN=4, WIDTH=4096),
        }
        print(stored, needs)
        if max(needs.values()) > SHARED[capability]:
            sys.exit(f"more shared memory than {SHARED[capability]} bytes: {needs}")


if __name__ == "__main__":
    for named in sys.argv[1:]:
        main(int(named))
