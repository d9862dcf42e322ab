"""The models that make up toybox, each trained by a stage."""
