"""Whole checkpoints: what one must hold, and an Algorithm that writes and takes no others."""
