"""Several processes: DDP and FSDP2 over gloo, the same losses as one process, a kill and what goes on after it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cells import cell

ROOT = Path(__file__).parents[1]
EPOCHS = 5
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not Path("/proc").exists(), reason="no torch.distributed, or no Linux"
)


def start(folder, processes, *arguments):
    launcher = (
        [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    )
    command = [sys.executable, "-W", "ignore", *launcher, "-m", "examples.train_distributed"]
    more = ["--epochs", str(EPOCHS), "--dtype", "float64", "--checkpoint", str(folder), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *more],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(folder, process):
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said[-3000:]
    return json.loads((folder / "losses.json").read_text()), said


def children_of(parent):
    """The processes that a launcher has started, which live in sessions of their own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may have ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The losses of a single process."""
    folder = tmp_path_factory.mktemp("alone")
    losses, said = finish(folder, start(folder, 1))
    assert losses[-1] < 0.2 < losses[0]
    assert "steps: 100%" in said
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.thorough
@cell("distributed", "DDP, two processes: the losses of one, a kill, and on from the checkpoint")
def test_two_copies_that_are_killed_and_resume(alone, tmp_path):
    process = start(tmp_path, 2)
    deadline = time.monotonic() + 120
    while not (tmp_path / "latest" / ".metadata").exists():
        assert process.poll() is None, process.stdout.read()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for pid in [process.pid, *children_of(process.pid)]:
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "losses.json").exists(), "it was killed before its end"
    losses, said = finish(tmp_path, start(tmp_path, 1))  # what two have saved, one reads
    begun = int(said.split("steps: ")[1].split("/")[0].split("|")[-1].strip())
    assert 0 < begun < len(losses), "it went on, and did not begin anew"
    torch.testing.assert_close(torch.tensor(losses, dtype=torch.float64), alone, rtol=1e-9, atol=1e-9)


@pytest.mark.thorough
@cell("distributed", "FSDP2 (fully_shard), two processes: the losses of one")
def test_parts_of_each_layer(alone, tmp_path):
    if torch.__version__ < "2.7":
        pytest.skip("FSDP2 of torch 2.6 needs a GPU: it records events of a stream that CPUs have not")
    losses, _ = finish(tmp_path, start(tmp_path, 2, "--strategy", "fsdp"))
    torch.testing.assert_close(torch.tensor(losses, dtype=torch.float64), alone, rtol=1e-9, atol=1e-9)


@pytest.mark.thorough
def test_another_loss_would_be_seen(alone):
    with pytest.raises(AssertionError):
        torch.testing.assert_close(alone * (1 + 1e-8), alone, rtol=1e-9, atol=1e-9)
