"""Trains the bundled base, its scorer and its detector: rendering, training stages, evaluation."""
