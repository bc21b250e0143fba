"""Pixels and the bytes they travel in. Nothing in here knows of requests."""
