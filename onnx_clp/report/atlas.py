"""MITRE ATLAS: which technique of an attacker each kind of evidence points to.

Source: MITRE ATLAS (Adversarial Threat Landscape for Artificial-Intelligence Systems), identifiers and names as of its
releases of 2025, in which AML.T0018 was renamed and its sub-techniques were numbered anew.
"""

from __future__ import annotations

from typing import Final

URI: Final = "https://atlas.mitre.org/"
NAME: Final = "MITRE ATLAS"
POISONED: Final = "AML.T0018.000"
REBUILT: Final = "AML.T0018.001"
TRIGGER: Final = "AML.T0043.004"

TECHNIQUES: Final = {
    POISONED: "Poison AI Model",
    REBUILT: "Modify AI Model Architecture",
    TRIGGER: "Insert Backdoor Trigger",
}

_OF_KIND: Final = {
    "trigger found": (POISONED, TRIGGER),
    "trigger measured": (POISONED, TRIGGER),
    "gate": (REBUILT,),
    "blinding": (REBUILT,),
    "data-dependent branch": (REBUILT,),
    "data-dependent loop": (REBUILT,),
    "data-dependent selection": (REBUILT,),
    "input compared with a constant": (REBUILT,),
    "custom operator": (REBUILT,),
}


def techniques(kind: str) -> tuple[str, ...]:
    """The techniques that evidence of a kind points to: what is in the weights, unless it is in the graph."""
    return _OF_KIND.get(kind, (POISONED,))


def page(identity: str) -> str:
    """The address of a technique's page."""
    return f"{URI}techniques/{identity}"
