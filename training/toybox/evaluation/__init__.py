"""Evaluates toybox, its detector and its scorer."""
