"""Other tools' files: concepts out as theirs, and theirs in as concepts."""
