"""Image–text models of open_clip: the image tower is a backbone, the text tower says what classes
look like."""
