"""Named run configs."""
