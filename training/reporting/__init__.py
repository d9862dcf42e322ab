"""HTML reports, picture grids and timing."""
