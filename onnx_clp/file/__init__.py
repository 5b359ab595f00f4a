"""Files on the disk: opened, recognised, read as wire format; their tensors stay where they are."""
