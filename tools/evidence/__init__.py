"""How well the tool removes backdoors, measured with ONNX Runtime on the models of `tools.zoo`; no torch.

settings             every combination of options that is compared, by name
record               measured rates, one JSON line a model and run
subject              a trained model: its files, its half, its group, its evaluation set
measuring            clean with the library, run, note; only what is missing
yardsticks           when a backdoor counts as taken, removed, and what removal cost
choice               which setting of a rule is reported; written down before any was measured
effort               default, caps, high effort and the paper's method, as users run them
naming, colour       what the search names, by limit; the CIFAR-10 networks one by one
real_size            published networks at real size with a backdoor planted in them
tables, page         the records as Markdown, between markers of docs/evidence.md
tac, scoring, latency, evasion    the paper's experiments, what caps cost, what an attacker does about it
pictures             the figures (matplotlib)
__main__             the command line

    python -m tools.evidence measure --work ZOO --out docs/evidence
    python -m tools.evidence report --out docs/evidence

`make evidence` trains the zoo and runs everything.
"""
