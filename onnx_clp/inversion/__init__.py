"""Look for a trigger without data: images made from the model, and what turns them all into one class.

The search runs in a process of its own, as validation does: `launch.search` starts it, `worker` is its main, and
`search` the order of things in it. Nothing here imports ONNX Runtime but through `validation.provider`.
"""
