"""Class activation maps, masks made of them, and the augmentation that applies them."""
