# Exported from nbs/train/index.ipynb. Edit either side, then run `litml sync`.
"""Training on PyTorch: a loop that fits on a screen, and callbacks."""

__all__ = []


# %% imports
from litml.train.average import Average
from litml.train.batches import Batches, make_loader
from litml.train.checkpoint import Checkpoint
from litml.train.device import TrainError, choose_device, move, seed_everything
from litml.train.events import EVENTS, Run
from litml.train.finder import RateCurve, find_rate
from litml.train.groups import fade_rates, freeze, make_groups, unfreeze
from litml.train.logs import CsvLog, LiveCurves, TensorBoardLog
from litml.train.loop import Trainer
from litml.train.metrics import Mean, Metric, accuracy
from litml.train.progress import Progress
from litml.train.schedules import count_steps, one_cycle, warm_cosine
from litml.train.state import load_weights
from litml.train.step import count_samples
from litml.train.stopping import EarlyStopping
from litml.train.summary import summarize
from litml.train.world import World

__all__ = [
    "EVENTS",
    "Average",
    "Batches",
    "Checkpoint",
    "CsvLog",
    "EarlyStopping",
    "LiveCurves",
    "Mean",
    "Metric",
    "Progress",
    "RateCurve",
    "Run",
    "TensorBoardLog",
    "TrainError",
    "Trainer",
    "World",
    "accuracy",
    "choose_device",
    "count_samples",
    "count_steps",
    "fade_rates",
    "find_rate",
    "freeze",
    "load_weights",
    "make_groups",
    "make_loader",
    "move",
    "one_cycle",
    "seed_everything",
    "summarize",
    "unfreeze",
    "warm_cosine",
]
