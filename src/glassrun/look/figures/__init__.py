"""The figures: each one function from arrays to a matplotlib figure, usable alone."""
