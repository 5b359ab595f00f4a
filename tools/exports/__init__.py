"""What exporters write: small networks in every framework, and the zoo's infected ResNet-18 carried over.

The modules named after a framework run in that framework's own environment: they import it, NumPy and onnx
and nothing else of this project but `carried`.
"""
