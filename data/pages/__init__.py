"""Parts of every HTML page: its frame, numbers, axes, curves and pictures."""
