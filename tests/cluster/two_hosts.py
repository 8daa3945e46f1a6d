"""What two hosts must do together; called by run.sh with the names of two network namespaces and a folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

TIMEOUT = 5.0  # seconds, as told to flowscope
LIMIT = 100.0  # seconds after which a process that hangs is a failure
COMMAND = ["stages", "gaussian:N=4000,D=8", "--timesteps", "8", "--probes", "32", "--memory", "200KB"]
# a pass that takes long enough for somebody to pull the cable
SLOW = """
import os, sys, time
import flowscope.curve.measure as measure
from flowscope.cli import main
blocks = measure.add_blocks
def slow(*arguments):
    for at in blocks(*arguments):
        open("passing-" + os.environ["RANK"], "w").close()
        time.sleep(0.2)
        yield at
measure.add_blocks = slow
sys.exit(main())
"""


def start(hosts: list[str], folder: Path, program: list[str], port: int) -> list[subprocess.Popen[str]]:
    """torchrun on both hosts, one rank each."""
    launch = [str(Path(sys.executable).with_name("torchrun")), "--nnodes", "2", "--nproc-per-node", "1"]
    launch += ["--master-addr", "10.77.0.1", "--master-port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"}
    return [
        subprocess.Popen(
            ["ip", "netns", "exec", host, *launch, "--node-rank", str(number), *program],
            cwd=folder,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for number, host in enumerate(hosts)
    ]


def end(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """(exit code, standard output, standard error) of each."""
    until, found = time.monotonic() + LIMIT, []
    try:
        for process in processes:
            said = process.communicate(timeout=max(1.0, until - time.monotonic()))
            found.append((process.returncode, *said))
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return found


def same_curve(hosts: list[str], folder: Path) -> None:
    alone = [sys.executable, "-m", "flowscope", *COMMAND, "--out", "alone"]
    subprocess.run(alone, cwd=folder, check=True, capture_output=True)
    for code, _, said in end(start(hosts, folder, ["-m", "flowscope", *COMMAND, "--out", "both"], 29511)):
        assert code == 0, said
    found, expected = (
        np.genfromtxt(folder / name / "stages.csv", delimiter=",", skip_header=2) for name in ("both", "alone")
    )
    scale = np.nanmax(np.abs(expected), axis=0)
    error = float(np.nanmax(np.abs(found - expected) / scale))
    assert error <= 1e-6, error
    print(f"two hosts: the curve of one process to {error:.1e}")


def cut_cable(hosts: list[str], folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW)
    program = ["slow.py", *COMMAND, "--out", "cut", "--rank-timeout", str(TIMEOUT)]
    processes = start(hosts, folder, program, 29512)
    until = time.monotonic() + LIMIT
    while not all((folder / f"passing-{rank}").exists() for rank in (0, 1)):
        assert time.monotonic() < until and processes[0].poll() is None, "the run has not begun"
        time.sleep(0.05)
    subprocess.run(["ip", "-n", hosts[1], "link", "set", "eth0", "down"], check=True)
    began = time.monotonic()
    said = [one[2] for one in end(processes)]
    took = time.monotonic() - began
    for rank, words in enumerate(("rank 1 has made no progress for", "the rendezvous store (MASTER_ADDR)")):
        lines = [line for line in said[rank].splitlines() if line.startswith("flowscope: ")]
        assert len(lines) == 1 and words in lines[0], said[rank]
        print(f"host {rank}: {lines[0]}")
    print(f"cable pulled: both hosts ended after {took:.1f} s, with {TIMEOUT:g} s allowed to a rank")


if __name__ == "__main__":
    same_curve(sys.argv[1:3], Path(sys.argv[3]))
    cut_cable(sys.argv[1:3], Path(sys.argv[3]))
