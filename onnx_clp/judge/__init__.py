"""Which channels stand out, which layers may be judged, and what else in the graph can hold a backdoor."""
