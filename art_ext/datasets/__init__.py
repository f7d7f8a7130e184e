"""Data files that ship with the package, each beside its licence; read them with `art_ext.data.load`."""
