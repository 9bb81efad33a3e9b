"""Run one of the loops for as long as lines come in: python one_loop.py NAME CASE."""

import logging
import sys
import warnings

import torch
from loops import CASES, LOOPS

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
torch.set_num_threads(1)
LOOPS[sys.argv[1]](CASES[sys.argv[2]])
