"""A zoo of infected and clean classifiers: rendered, poisoned, trained, exported and measured by code.

datasets, signs, cifar      images and labels, uint8 NCHW
attacks, generated          triggers, and how they poison a training set
recipe, design, lineup      what a model is trained with; the lists of models
architectures, input_aware  the networks (torch)
train, export, workshop     training, ONNX files un-folded and folded, and both in order (torch)
real_size                   the list of published networks that a backdoor is planted in
onnx_network, planting      an ONNX file as a torch module; a backdoor fine-tuned into it (torch)
planted                     folders of planted networks, with their evaluation sets
result                      one line of JSON per trained model
evalset, measure, trial     the evaluation file; ACC, ASR and RA with ONNX Runtime; one run of the tool
manifest                    MANIFEST.json: what every published file is and what it is measured to do
__main__                    the command line

    python -m tools.zoo train --set small --work zoo
    python -m tools.zoo plant --network mobilenetv2 --model FILE.onnx --photographs FILE.npz --work real
    python -m tools.zoo publish --work zoo --keep NAME=STEM ...
    python -m tools.zoo check

Only what is marked (torch) needs torch, the extra [zoo].
"""
