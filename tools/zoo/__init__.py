"""A zoo of infected and clean classifiers: rendered, poisoned, trained, exported and measured by code.

    datasets, signs        images and labels, uint8 NCHW
    attacks                triggers, and how they poison a training set
    architectures          the networks (torch)
    recipe, train          what a model is trained with, and the training itself (torch)
    export                 torch module -> ONNX files, un-folded and folded (torch)
    measure, evalset       ACC, ASR and RA with ONNX Runtime; the evaluation file
    manifest               MANIFEST.json: what every committed file is, and what it is measured to do
    __main__               `python -m tools.zoo`

Everything but architectures, train and export runs without torch.
"""
