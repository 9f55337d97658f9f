"""What an operator does to a gallery at rest: check, back up, restore, seal anew, embed anew."""
