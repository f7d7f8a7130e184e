"""The colours of all pictures, so that a method has the same one in curves and bars."""

# Okabe & Ito's palette without black and yellow: told apart with any colour vision, and in grey
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
