"""Bridges to other libraries: timm, torchattacks, AutoAttack. Importing this package loads none of them."""
