"""Base models: loading, prompt encoding, token embeddings, sampling, regions, control."""
