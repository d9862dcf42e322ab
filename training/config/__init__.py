"""The training configuration: the recipe, its presets and the adapters' options."""
