"""The shipped demo model `sketch`: its grammar of scenes, how it is trained, how it is graded."""
