"""Concat and Split of channels between the convolutions and what normalises them."""

from __future__ import annotations

from collections.abc import Iterator

from tests.forms.build import Form, bn, folds, may, model, positive, rand, stays

TAIL = "y = BatchNormalization(c, g, b, m, v)"
TWO = "d = Conv(x, W) e = Conv(x, V)"
WEIGHTS = {"W": rand(4, 3, 3, 3), "V": rand(2, 3, 3, 3, seed=3)}
JOIN = "c = Concat<axis = 1>(d, e)"
SPLIT = "d = Conv(x, W) n = Constant<value_ints = [4,2]>() p, q = Split<axis = 1>(d, n)"
NORMS = "y = BatchNormalization(p, g1, b1, m1, v1) z = BatchNormalization(q, g2, b2, m2, v2)"


def rows() -> Iterator[Form]:
    yield from _concat()
    yield from _concat_limits()
    yield from _split()
    yield from _split_limits()


def _concat() -> Iterator[Form]:
    yield folds("branches/Concat-bn", model(f"{TWO} {JOIN} {TAIL}", **WEIGHTS, **bn(6)))
    yield folds(
        "branches/Concat-negative-axis-bn",
        model(f"{TWO} {JOIN.replace('= 1', '= -3')} {TAIL}", **WEIGHTS, **bn(6)),
    )
    pair = f"{TWO} {JOIN} s = Mul(c, k) y = Add(s, t)"
    yield folds("branches/Concat-mul-add", model(pair, k=positive(6, 1, 1), t=rand(1, 6, 1, 1), **WEIGHTS))
    scalar = model(f"{TWO} {JOIN} y = Mul(c, k)", k=positive(), **WEIGHTS)
    yield folds("branches/Concat-mul-scalar", scalar)
    three = f"{TWO} f = Conv(x, U) c = Concat<axis = 1>(d, e, f) {TAIL}"
    yield folds("branches/Concat-of-three-bn", model(three, U=rand(3, 3, 3, 3), **WEIGHTS, **bn(9)))
    mixed = f"d = Conv(x, W, B) e = ConvTranspose<pads = [2,2,2,2]>(x, V) {JOIN} {TAIL}"
    weights = {"W": WEIGHTS["W"], "B": rand(4), "V": rand(3, 2, 3, 3)}
    yield folds("branches/Concat-of-Conv-and-ConvTranspose-bn", model(mixed, **weights, **bn(6)))
    behind = f"{TWO} h = Concat<axis = 1>(d, e) c = Identity(h) {TAIL}"
    yield folds("branches/Concat-Identity-bn", model(behind, **WEIGHTS, **bn(6)))
    inner = f"{TWO} a = BatchNormalization(d, g1, b1, m1, v1) c = Concat<axis = 1>(a, e) {TAIL}"
    yield folds("branches/bn-Concat-bn", model(inner, **WEIGHTS, **bn(4, "1", seed=4), **bn(6)))
    same = f"d = Conv(x, W) e = Conv<strides = [1,1]>(w, W) {JOIN} {TAIL}"
    recipe = model(f"w = Neg(x) {same}", W=WEIGHTS["W"], **bn(8))
    yield folds("branches/Concat-of-shared-weight-bn", recipe)
    nested = f"{TWO} f = Conv(x, U) h = Concat<axis = 1>(d, e) c = Concat<axis = 1>(h, f) {TAIL}"
    recipe = model(nested, U=rand(3, 3, 3, 3), **WEIGHTS, **bn(9))
    yield may("branches/Concat-of-Concat-bn", "two levels of slices", recipe)


def _concat_limits() -> Iterator[Form]:
    raw = model(f"d = Conv<pads = [1,1,1,1]>(x, W) c = Concat<axis = 1>(d, x) {TAIL}", W=WEIGHTS["W"], **bn(7))
    yield stays("branches/Concat-with-input", "branch_not_linear", raw)
    relu = model(f"{TWO} r = Relu(e) c = Concat<axis = 1>(d, r) {TAIL}", **WEIGHTS, **bn(6))
    yield stays("branches/Concat-with-Relu", "branch_not_linear", relu)
    two = "float y, float z"
    tapped = model(f"{TWO} {JOIN} {TAIL} z = Relu(e)", y=two, **WEIGHTS, **bn(6))
    yield stays("branches/Concat-branch-used-twice", "several_consumers", tapped)
    output = model(f"{TWO} {JOIN} {TAIL}", y="float y, float d", **WEIGHTS, **bn(6))
    yield stays("branches/Concat-branch-is-output", "graph_output", output)
    joined = model(f"{TWO} {JOIN} {TAIL} z = Relu(c)", y=two, **WEIGHTS, **bn(6))
    yield stays("branches/Concat-used-twice", "several_consumers", joined)
    twice = model(f"d = Conv(x, W) c = Concat<axis = 1>(d, d) {TAIL}", W=WEIGHTS["W"], **bn(8))
    yield stays("branches/Concat-of-one-twice", "several_consumers", twice)
    dense = f"{TWO} {JOIN} {TAIL} z = BatchNormalization(c, g2, b2, m2, v2)"
    recipe = model(dense, y=two, **WEIGHTS, **bn(6), **bn(6, "2", seed=5))
    yield stays("branches/Concat-two-normalisations", "several_consumers", recipe)
    space = f"d = Conv(x, W) e = Conv(x, V) c = Concat<axis = 2>(d, e) {TAIL}"
    recipe = model(space, W=WEIGHTS["W"], V=rand(4, 3, 3, 3, seed=6), **bn(4))
    yield may("branches/Concat-in-space", "every branch would take the whole affine", recipe)
    constant = f"d = Conv(x, W) c = Concat<axis = 1>(d, k) {TAIL}"
    recipe = model(constant, W=WEIGHTS["W"], k=rand(2, 2, 4, 4), **bn(6))
    yield may("branches/Concat-with-constant", "the constant could take its slice", recipe)
    training = model(
        f"{TWO.replace('V)', 'U)')} {JOIN} {TAIL}",
        x="float[2,3,6,6] x, float[2,3,3,3] U",
        W=WEIGHTS["W"],
        **bn(6),
    )
    yield stays("branches/Concat-weight-at-run-time", "branch_not_linear", training)
    mixed = model(f"d = Conv(x, W) e = MaxPool<kernel_shape = [3,3]>(x) {JOIN} {TAIL}", W=WEIGHTS["W"], **bn(7))
    yield stays("branches/Concat-with-pooling", "branch_not_linear", mixed)


def _split() -> Iterator[Form]:
    two = "float y, float z"
    six = {"W": rand(6, 3, 3, 3)}
    stats = {**bn(4, "1"), **bn(2, "2", seed=5)}
    yield folds("branches/Split-bn-each", model(f"{SPLIT} {NORMS}", y=two, **six, **stats))
    old = f"d = Conv(x, W) p, q = Split<axis = 1, split = [4,2]>(d) {NORMS}"
    yield folds("branches/Split-opset11-bn-each", model(old, y=two, opset=11, **six, **stats))
    even = {**bn(3, "1"), **bn(3, "2", seed=5)}
    halves = f"d = Conv(x, W) p, q = Split<axis = -3, num_outputs = 2>(d) {NORMS}"
    yield folds("branches/Split-num_outputs-bn-each", model(halves, y=two, opset=18, **six, **even))
    affine = f"{SPLIT} y = Mul(p, k) z = Add(q, t)"
    yield folds("branches/Split-mul-and-add", model(affine, y=two, k=positive(4, 1, 1), t=rand(2, 1, 1), **six))
    chains = f"{SPLIT} a = Identity(p) y = BatchNormalization(a, g1, b1, m1, v1) s = Mul(q, k) z = Sub(s, t)"
    weights = {"k": positive(2, 1, 1), "t": rand(1, 2, 1, 1), **six, **bn(4, "1")}
    yield folds("branches/Split-unlike-affines", model(chains, y=two, **weights))


def _split_limits() -> Iterator[Form]:
    two = "float y, float z"
    six = {"W": rand(6, 3, 3, 3)}
    one = f"{SPLIT} y = BatchNormalization(p, g1, b1, m1, v1) z = Relu(q)"
    # The other slice would keep its weights: exact, yet not every branch has an affine to fold.
    yield may("branches/Split-bn-on-one", "the other branch has none", model(one, y=two, **six, **bn(4, "1")))
    raw = f"{SPLIT} y = BatchNormalization(p, g1, b1, m1, v1)"
    yield may("branches/Split-other-is-output", "as above", model(raw, y="float y, float q", **six, **bn(4, "1")))
    tapped = f"{SPLIT} {NORMS} o = Relu(p)"
    stats = {**bn(4, "1"), **bn(2, "2", seed=5)}
    recipe = model(tapped, y="float y, float z, float o", **six, **stats)
    # The slice that has no second reader may still be folded.
    yield may("branches/Split-branch-used-twice", "one branch allows it, one does not", recipe)
    whole = f"{SPLIT} {NORMS} o = Relu(d)"
    recipe = model(whole, y="float y, float z, float o", **six, **stats)
    yield stays("branches/Split-conv-used-twice", "several_consumers", recipe)
    space = "d = Conv(x, W) n = Constant<value_ints = [1,3]>() p, q = Split<axis = 2>(d, n) " + NORMS
    recipe = model(space, y=two, **six, **bn(6, "1"), **bn(6, "2", seed=5))
    yield stays("branches/Split-in-space", "not_per_channel", recipe)
    same = NORMS.replace("g2, b2, m2, v2", "g1, b1, m1, v1")
    recipe = model(
        f"d = Conv(x, W) p, q = Split<axis = 2, num_outputs = 2>(d) {same}",
        y=two,
        opset=18,
        **six,
        **bn(6, "1"),
    )
    yield may("branches/Split-in-space-same-affine", "both halves ask for the same fold", recipe)
    piece = (
        "d = Conv(x, W) i = Constant<value_ints = [0]>() j = Constant<value_ints = [4]>() "
        "k = Constant<value_ints = [1]>() "
    )
    piece += "p = Slice(d, i, j, k) y = BatchNormalization(p, g1, b1, m1, v1)"
    yield may("branches/Slice-bn", "the rest of the channels is dropped", model(piece, **six, **bn(4, "1")))
    shuffle = (
        "d = Conv(x, W) i = Constant<value_ints = [2,2,3,4,4]>() j = Constant<value_ints = [2,6,4,4]>() "
        "f = Reshape(d, i) h = Transpose<perm = [0,2,1,3,4]>(f) c = Reshape(h, j) " + TAIL
    )
    yield may("branches/channel-shuffle-bn", "the channels are permuted", model(shuffle, **six, **bn(6)))
    plane = "d = Conv(x, W) c = DepthToSpace<blocksize = 2>(d) " + TAIL
    yield may("branches/DepthToSpace-bn", "four channels become one", model(plane, W=rand(8, 3, 3, 3), **bn(2)))
    again = f"{SPLIT} c = Concat<axis = 1>(p, q) {TAIL}"
    yield may("branches/Split-Concat-bn", "the Concat puts the slices back", model(again, **six, **bn(6)))
