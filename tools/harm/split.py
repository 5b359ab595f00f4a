"""Which networks choose how the predicted loss is calibrated, and which report whether that holds.

Written down before anything was measured for it:

- Networks that this repository trains: even seeds choose, odd seeds report, as everywhere (`tools.zoo.design.half`).
- Those of others: by their place among all names in alphabetical order, the first chooses, the second reports, and so
  on. Another form of a network (folded, half precision, 8-bit integers) belongs to its network's half.
- The yardstick: the share of edits whose loss, as measured, lies at or below the upper end of what was foretold, at
  least 95 %. It is counted over the reporting half, and over all networks with each one left out of the fit that its
  own edits are counted by.

What published networks lose under earlier settings was known by then, of both halves; of trained ones nothing was.
"""

from __future__ import annotations

import re
from typing import Final

from tools.zoo.design import Half

_OTHERS: Final = (
    "abl_wrn16_badnets",
    "basic-pitch",
    "blazeface",
    "captcha-crnn",
    "centerface",
    "crepe-tiny",
    "csaw2020_multi",
    "ddddocr",
    "ddddocr-det",
    "dltnd_pixel1_5000",
    "dnsmos",
    "efficientnet-lite0",
    "efficientnet-lite1",
    "efficientnet-lite2",
    "faceres",
    "fer-mini-xception",
    "finepruning_face_bd",
    "ibau_cifar_badnets",
    "ibau_cifar_l0_inv",
    "ibau_gtsrb_badnets",
    "mobilenetv2",
    "mtcnn-onet",
    "nad_wrn16_badnets",
    "nad_wrn16_teacher",
    "nudenet",
    "oaramoon_gtsrb_badnets",
    "open-nsfw",
    "ppocr-cls",
    "ppocr-det",
    "ppocr-rec",
    "resnet18_badnets",
    "resnet18_badnets_plain",
    "resnet18_clean",
    "selfie",
    "shihao_mnist",
    "silero-vad",
    "verazuo_cifar",
    "wake-word-embedding",
    "wxr_mnist_all2all",
    "wxr_mnist_clean",
)
_FORMS: Final = re.compile(r"-(folded|fp16|qdq|qoperator)$")
_SEED = re.compile(r"_s(\d+)$")


def half(network: str) -> Half:
    """The half of a network, by its name alone."""
    if seed := _SEED.search(network):
        return "report" if int(seed.group(1)) % 2 else "choose"
    name = own_name(network)
    return "report" if (_OTHERS.index(name) if name in _OTHERS else len(_OTHERS)) % 2 else "choose"


def own_name(network: str) -> str:
    """The network that this one is a form of, or itself."""
    return _FORMS.sub("", network)
