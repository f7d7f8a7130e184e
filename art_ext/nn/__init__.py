"""Parts of networks. Importing this package loads nothing; take each part from its own module."""
