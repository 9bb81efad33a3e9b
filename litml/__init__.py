# Exported from nbs/index.ipynb. Edit either side, then run `litml sync`.
"""Write machine-learning libraries in notebooks: typed package, pytest tests and
wheels from one source.
"""

__all__ = []


# %% version
__version__ = "0.1.0"
