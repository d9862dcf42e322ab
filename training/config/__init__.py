"""What a training is: the recipe, its presets and the adapters' options."""
