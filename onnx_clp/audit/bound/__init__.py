"""How far any patch of a given size can move the class scores: intervals through the graph, no images needed."""
