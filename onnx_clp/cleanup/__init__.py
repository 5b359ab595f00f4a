"""What changes no output taken out of the graph."""
