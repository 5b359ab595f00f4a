# The evidence of docs/evidence.md, from nothing: `make evidence`. What is there is not made again.
PYTHON ?= python
ZOO ?= zoo
PROCESSES ?= 1
EVIDENCE := docs/evidence

DATA ?= /usr/share/datasets/fashion-mnist

.PHONY: bench realsize evidence evidence-zoo evidence-measure evidence-report

evidence: evidence-measure
	$(MAKE) evidence-report

# Needs torch (pip install '.[zoo]') and Debian's dataset-fashion-mnist; hours on two cores.
evidence-zoo:
	$(PYTHON) -m tools.zoo train --set covering --work $(ZOO)

evidence-measure: evidence-zoo
	$(PYTHON) -m tools.evidence measure --work $(ZOO) --out $(EVIDENCE) --processes $(PROCESSES)
	$(PYTHON) -m tools.evidence experiments --work $(ZOO) --out $(EVIDENCE)

# Needs no zoo: only the records in docs/evidence.
evidence-report:
	$(PYTHON) -m tools.evidence report --out $(EVIDENCE) --page docs/evidence.md

# The same for settings that are fixed: needs CIFAR-10 in $(DATA)/cifar10; --search-seconds should be more on a busy machine.
bench:
	$(PYTHON) -m tools.zoo train --set cifar10 --work $(ZOO)/bench --data $(DATA)
	$(PYTHON) -m tools.zoo train --set clean --work $(ZOO)/bench --data $(DATA)
	$(PYTHON) -m tools.evidence effort --work $(ZOO)/bench --data $(DATA) --out $(EVIDENCE)
	$(MAKE) evidence-report

# Published networks at real size: MOBILENETV2 and LITE0 are their files, PHOTOGRAPHS an archive of labelled ones.
realsize:
	$(PYTHON) -m tools.zoo plant --network mobilenetv2 --model $(MOBILENETV2) --photographs $(PHOTOGRAPHS) --work $(ZOO)/real
	$(PYTHON) -m tools.zoo plant --network efficientnet-lite0 --model $(LITE0) --photographs $(PHOTOGRAPHS) --work $(ZOO)/real
	$(PYTHON) -m tools.evidence realsize --work $(ZOO)/real --photographs $(PHOTOGRAPHS) --out $(EVIDENCE)
	$(MAKE) evidence-report
