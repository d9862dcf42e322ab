"""The torch core: adapters, merges, base models, metrics, file formats."""
