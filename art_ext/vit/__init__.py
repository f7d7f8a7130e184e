"""What only transformers need: attacks without some of the attention, and without some of the patches."""

from art_ext.vit.blocks import attention_branches, patch_size
from art_ext.vit.dropping import attention_dropping
from art_ext.vit.masking import mask_patches, patch_masking

__all__ = ["attention_branches", "attention_dropping", "mask_patches", "patch_masking", "patch_size"]
