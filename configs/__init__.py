"""Presets: one file each, a value `CONFIG` of `jaxdiff.training.config.Config`."""

from configs import cifar10, digits, imagenet64, imagenet64_xl, mnist, toy2d

PRESETS = {
    "digits": ("1,797 handwritten digits of 8 x 8 pixels: minutes on a CPU", digits.CONFIG),
    "mnist": ("MNIST, 28 x 28: minutes on a CPU", mnist.CONFIG),
    "cifar10": ("CIFAR-10 with the DDPM network, for an accelerator", cifar10.CONFIG),
    "imagenet64": ("ImageNet, 64 x 64, with the ADM network, for a pod", imagenet64.CONFIG),
    "imagenet64_xl": ("the same with 677 million parameters", imagenet64_xl.CONFIG),
    "toy2d": ("points in the plane: seconds on a CPU", toy2d.CONFIG),
}
