# The evidence of docs/evidence.md, from nothing: `make evidence`. What is there is not made again.
PYTHON ?= python
ZOO ?= zoo
EVIDENCE := docs/evidence

.PHONY: evidence zoo measure report

evidence: report

# Needs torch (pip install '.[zoo]') and Debian's dataset-fashion-mnist; some hours on two cores.
zoo:
	$(PYTHON) -m tools.zoo train --set covering --work $(ZOO)

measure: zoo
	$(PYTHON) -m tools.evidence measure --work $(ZOO) --out $(EVIDENCE)

report: measure
	$(PYTHON) -m tools.evidence report --out $(EVIDENCE) --page docs/evidence.md
