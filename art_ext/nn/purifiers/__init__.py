"""Networks that fill the holes of an image and take a perturbation out of it."""

from art_ext.nn.purifiers.autoencoder import AutoEncoder
from art_ext.nn.purifiers.base import PURIFIERS, Purifier, make_purifier
from art_ext.nn.purifiers.diffusers import DiffusersPurifier
from art_ext.nn.purifiers.discriminator import PatchDiscriminator
from art_ext.nn.purifiers.inpainting import GatedInpainting
from art_ext.nn.purifiers.unet import UNet

__all__ = [
    "PURIFIERS",
    "AutoEncoder",
    "DiffusersPurifier",
    "GatedInpainting",
    "PatchDiscriminator",
    "Purifier",
    "UNet",
    "make_purifier",
]
