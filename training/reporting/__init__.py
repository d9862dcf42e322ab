"""Reports as HTML and picture grids."""
