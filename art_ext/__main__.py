"""``python -m art_ext`` is the command ``art-ext``; ``torchrun -m art_ext`` starts it on several devices."""

from art_ext.cli import main

if __name__ == "__main__":
    main()
