"""BatchNormalization at every opset, its attributes and its training modes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.forms.build import (
    Array,
    Form,
    Oracle,
    bn,
    constants,
    folds,
    may,
    model,
    positive,
    rand,
    reference,
    stays,
)

CONV = "c = Conv(x, W)"
W = (4, 3, 3, 3)
INPUTS = "(c, g, b, m, v)"
Y = "float[2,4,4,4] y"  # shape inference has no answer for training or per-element statistics


def rows() -> Iterator[Form]:
    yield from _opsets()
    yield from _old_opsets()
    yield from _training()
    yield from _per_element()
    yield from _statistics()
    yield from _run_time()


def _opsets() -> Iterator[Form]:
    for opset in (7, 8, 9, 10, 11, 12, 13, 14, 15, 18, 21, 22, 23):
        ir = 3 if opset < 9 else 10 if opset > 20 else 8
        body = f"{CONV} y = BatchNormalization{INPUTS}"
        recipe = model(body, opset=opset, ir=ir, W=W, **bn(4))
        yield folds(f"batchnorm/opset{opset}", recipe)
    for text in ("epsilon = 0.1", "epsilon = 0.001, momentum = 0.5", "epsilon = 0.0"):
        name = text.replace(" ", "").replace(",", "-")
        recipe = model(f"{CONV} y = BatchNormalization<{text}>{INPUTS}", W=W, **bn(4))
        yield folds(f"batchnorm/{name}", recipe)
    explicit = model(f"{CONV} y = BatchNormalization<training_mode = 0>{INPUTS}", W=W, **bn(4))
    yield folds("batchnorm/training_mode-0", explicit)
    nodes = model(f"{constants(bn(4))} {CONV} y = BatchNormalization{INPUTS}", W=W)
    yield folds("batchnorm/parameters-Constant", nodes)
    identities = "".join(f"{p}i = Identity({p}) " for p in "gbmv")
    behind = model(f"{identities} {CONV} y = BatchNormalization(c, gi, bi, mi, vi)", W=W, **bn(4))
    yield folds("batchnorm/parameters-Identity", behind)


def _old_opsets() -> Iterator[Form]:
    for opset in (1, 6):
        consumed = "consumed_inputs = [0,0,0,1,1], " if opset == 1 else ""
        for name, text in (
            ("is_test-1", "is_test = 1"),
            ("is_test-1-spatial-1", "is_test = 1, spatial = 1"),
            ("is_test-1-epsilon", "is_test = 1, epsilon = 0.01"),
        ):
            recipe = model(
                f"{CONV} y = BatchNormalization<{consumed}{text}>{INPUTS}",
                y=Y,
                opset=opset,
                ir=3,
                W=W,
                **bn(4),
            )
            yield reference(folds(f"batchnorm/opset{opset}-{name}", recipe))
        for name, text in (("is_test-0", "is_test = 0"), ("is_test-absent", "momentum = 0.9")):
            recipe = model(
                f"{CONV} y = BatchNormalization<{consumed}{text}>{INPUTS}",
                y=Y,
                opset=opset,
                ir=3,
                W=W,
                **bn(4),
            )
            yield reference(stays(f"batchnorm/opset{opset}-{name}", "training_mode", recipe))


def _training() -> Iterator[Form]:
    for opset in (7, 9, 13):
        ir = 3 if opset == 7 else 8
        outs = f"{Y}, float[4] n"
        body = f"{CONV} y, n, w, n2, w2 = BatchNormalization{INPUTS}"
        used = model(body, opset=opset, ir=ir, y=outs, W=W, **bn(4))
        yield reference(stays(f"batchnorm/opset{opset}-mean-used", "training_mode", used))
    # Five declared outputs mean training by the operator's text, read or not; runtimes disagree.
    unused = model(f"{CONV} y, n, w, n2, w2 = BatchNormalization{INPUTS}", opset=9, W=W, **bn(4))
    yield reference(may("batchnorm/opset9-outputs-unread", "declared, never read", unused))
    for opset in (14, 15):
        body = f"{CONV} y = BatchNormalization<training_mode = 1>{INPUTS}"
        recipe = model(body, y=Y, opset=opset, W=W, **bn(4))
        yield reference(stays(f"batchnorm/opset{opset}-training_mode-1", "training_mode", recipe, valid=False))
    three = f"{CONV} y, n, w = BatchNormalization<training_mode = 1, momentum = 0.9>{INPUTS}"
    yield reference(stays("batchnorm/training-three-outputs", "training_mode", model(three, W=W, **bn(4))))
    outs = "float y, float[4] n, float[4] w"
    read = model(three, y=outs, W=W, **bn(4))
    yield reference(stays("batchnorm/training-statistics-used", "training_mode", read))
    dropped = "r = Constant<value = float {0.5}>() f = Constant<value = bool {1}>() "
    body = f"{CONV} {dropped} z = Dropout<seed = 3>(c, r, f) y = BatchNormalization(z, g, b, m, v)"
    # A random mask cannot be compared between two runs.
    yield stays("batchnorm/behind-training-dropout", "not_linear", model(body, W=W, **bn(4)), oracle=Oracle.NONE)


def _per_element() -> Iterator[Form]:
    wide: dict[str, Array] = {n: np.tile(np.asarray(a)[:, None, None], (1, 4, 4)) for n, a in bn(4).items()}
    wide["g"][:, 0, 1] *= 3
    for opset in (1, 6, 7, 8):
        test = "is_test = 1, " if opset < 7 else ""
        consumed = "consumed_inputs = [0,0,0,1,1], " if opset == 1 else ""
        body = f"{CONV} y = BatchNormalization<{consumed}{test}spatial = 0>{INPUTS}"
        recipe = model(body, y=Y, opset=opset, ir=3, W=W, **wide)
        yield reference(stays(f"batchnorm/opset{opset}-spatial-0", "not_per_channel", recipe))
    flat = f"{CONV} y = BatchNormalization<spatial = 1>{INPUTS}"
    recipe = model(flat, y=Y, opset=7, ir=3, W=W, **bn(4))
    yield folds("batchnorm/opset7-spatial-1", recipe)


def _statistics() -> Iterator[Form]:
    """Statistics that give no finite scale."""
    bad = {
        "variance-negative": ("v", [-1.0, 1, 1, 1], "epsilon = 0.001"),
        "variance-cancels-epsilon": ("v", [-0.5, 1, 1, 1], "epsilon = 0.5"),
        "variance-zero-epsilon-zero": ("v", [0.0, 1, 1, 1], "epsilon = 0.0"),
        "scale-nan": ("g", [np.nan, 1, 1, 1], "epsilon = 0.001"),
        "scale-infinite": ("g", [1, np.inf, 1, 1], "epsilon = 0.001"),
        "bias-nan": ("b", [1, 1, np.nan, 1], "epsilon = 0.001"),
        "mean-infinite": ("m", [1, 1, 1, -np.inf], "epsilon = 0.001"),
        "variance-nan": ("v", [1, 1, 1, np.nan], "epsilon = 0.001"),
    }
    for name, (which, values, text) in bad.items():
        weights = {**bn(4), which: np.array(values, np.float32)}
        recipe = model(f"{CONV} y = BatchNormalization<{text}>{INPUTS}", W=W, **weights)
        yield stays(f"batchnorm/{name}", "not_finite", recipe)
    infinite = {**bn(4), "v": np.array([np.inf, 1, 1, 1], np.float32)}
    # An infinite variance makes the scale exactly zero: finite, though surely not meant.
    recipe = model(f"{CONV} y = BatchNormalization{INPUTS}", W=W, **infinite)
    yield may("batchnorm/variance-infinite", "the scale is zero", recipe)
    tiny = {**bn(4), "v": np.array([1e-12, 1, 1, 1], np.float32)}
    yield folds("batchnorm/variance-tiny", model(f"{CONV} y = BatchNormalization{INPUTS}", W=W, **tiny))
    huge = {**bn(4), "g": np.full(4, 3e38, np.float32), "v": np.full(4, 1e-4, np.float32)}
    over = model(f"{CONV} y = BatchNormalization{INPUTS}", W=W, **huge)
    yield stays("batchnorm/overflow-float32", "not_finite", over)


def _run_time() -> Iterator[Form]:
    for which in "gbmv":
        weights = {n: a for n, a in bn(4).items() if n != which}
        body = f"{CONV} s = Abs({which}r) {which} = Add(s, o) y = BatchNormalization{INPUTS}"
        recipe = model(body, x=f"float[2,3,6,6] x, float[4] {which}r", W=W, o=positive(4), **weights)
        yield stays(f"batchnorm/run-time-{which}", "parameter_not_constant", recipe)
    derived = f"{CONV} z = GlobalAveragePool(c) y = Mul(c, z)"
    yield stays("batchnorm/gate", "not_constant", model(derived, W=W), listed=False, visible=False)
    for length in (1, 3, 8):
        recipe = model(f"{CONV} y = BatchNormalization{INPUTS}", y=Y, W=W, **bn(length))
        yield stays(f"batchnorm/length-{length}", "shape_mismatch", recipe, oracle=Oracle.NONE, valid=False)
    mixed = {**bn(4), "b": rand(3)}
    recipe = model(f"{CONV} y = BatchNormalization{INPUTS}", y=Y, W=W, **mixed)
    yield stays("batchnorm/bias-of-another-length", "shape_mismatch", recipe, oracle=Oracle.NONE, valid=False)
