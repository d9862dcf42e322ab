"""Trainings of a library: single runs, queued jobs, workers and batches."""
