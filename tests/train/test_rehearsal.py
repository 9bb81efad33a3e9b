"""A GPU rehearsed: the loop with tensors of another device, which no GPU has run."""

import json
import subprocess
import sys
from pathlib import Path

import training  # noqa: F401  # skips where the extra is missing

HERE = Path(__file__).parent


def test_trainings_on_a_pretended_device() -> None:
    """Equal to the processor to the bit, nothing mixed, no step that waits."""
    done = subprocess.run(
        [sys.executable, HERE / "rehearsal.py"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 16
    assert not any(found.values()), "\n".join(filter(None, found.values()))
