"""How the bundled base, its scorer and its detector are made: rendering, training, evaluation."""
