"""The shipped demo model `sketch`: its grammar of scenes, how it is trained, how it is graded."""

from models import vision

LIBRARY = vision.LIBRARY  # ahead of diffusers, as in a worker
