"""The torch core: adapters, merges, diffusion, scoring. It imports no sibling package."""
