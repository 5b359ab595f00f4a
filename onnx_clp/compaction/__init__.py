"""Physical removal of channels that do nothing: a survey of the graph, a solver, and the cuts."""
