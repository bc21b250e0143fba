"""The painters: all that may import torch, and the contract by which a server speaks to it.

Importing this package imports nothing; only `contract`, `wire`, `launch` are meant for outsiders.
"""
