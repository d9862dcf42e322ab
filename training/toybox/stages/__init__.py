"""The training stages of toybox's models."""
