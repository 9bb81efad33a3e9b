"""A GPU rehearsed: the loop with tensors of another device, which no GPU has run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from training import torch  # skips where the extra is missing

HERE = Path(__file__).parent
CAN_PRETEND = hasattr(
    torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"
)


@pytest.mark.skipif(not CAN_PRETEND, reason=f"torch {torch.__version__} is too old")
def test_trainings_on_a_pretended_device() -> None:
    """Equal to the processor to the bit, nothing mixed, no step that waits."""
    done = subprocess.run(
        [sys.executable, HERE / "rehearsal.py"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 16
    assert not any(found.values()), "\n".join(filter(None, found.values()))
