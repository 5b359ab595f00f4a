"""Channel affines behind and before linear layers, folded into them."""
