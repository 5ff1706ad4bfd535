"""Models for other programs: SavedModels, and the original's checkpoints."""
