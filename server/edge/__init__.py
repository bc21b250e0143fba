"""HTTP, without any dialect: what every request passes, and what dialects are built with."""
