"""What the `limner` command does; what of it speaks to a terminal is in `terminal`."""
