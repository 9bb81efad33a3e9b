# Exported from nbs/train/index.ipynb. Edit either side, then run `litml sync`.
"""Training on PyTorch: a loop that fits on a screen, and callbacks."""

__all__ = []


# %% imports
from litml.train.batches import Batches, make_loader
from litml.train.checkpoint import Checkpoint
from litml.train.device import TrainError, choose_device, move, seed_everything
from litml.train.events import EVENTS, Run
from litml.train.loop import Trainer
from litml.train.metrics import Mean, Metric, accuracy
from litml.train.state import load_weights
from litml.train.step import count_samples
from litml.train.world import World

__all__ = [
    "EVENTS",
    "Batches",
    "Checkpoint",
    "Mean",
    "Metric",
    "Run",
    "TrainError",
    "Trainer",
    "World",
    "accuracy",
    "choose_device",
    "count_samples",
    "load_weights",
    "make_loader",
    "move",
    "seed_everything",
]
