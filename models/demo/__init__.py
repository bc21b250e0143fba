"""The shipped models `sketch` and `sketch-flux`: their grammar, how they are trained and graded."""

from models.vision import LIBRARY as LIBRARY  # ahead of diffusers, as in a worker
