"""How the bundled base, its scorer and its judges are made: rendering, training, evaluation."""
