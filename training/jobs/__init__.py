"""Queued trainings, workers and batches."""
