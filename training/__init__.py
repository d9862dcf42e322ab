"""The training backend: trains concepts, runs jobs and studies, and trains the bundled base."""
