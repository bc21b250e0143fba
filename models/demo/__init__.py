"""The shipped demo model `sketch`: its grammar of scenes, how it is trained, how it is graded."""

from models.vision import LIBRARY as LIBRARY  # ahead of diffusers, as in a worker
