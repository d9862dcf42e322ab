"""Base models: loading, prompt encoding, sampling, regions, control."""
